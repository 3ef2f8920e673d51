"""buildah and podman with storage, sockets and locks in folders of their own: what a test makes ends with it.

Containers use the host's network and nothing else: a bridge would leave tables of the packet filter on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

COMMANDS = ("buildah", "podman", "runc", "conmon", "mmdebstrap")

CONTAINERS = """\
[containers]
# Without them podman asks for more than a container that we run in may have.
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{root}/tmp"
[network]
network_config_dir = "{root}/networks"
"""
STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""


def why_not() -> str | None:
    """Return why this machine cannot run containers; None if it can."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return f"there is no {', '.join(missing)}: scripts/install-system-packages test"
    if os.geteuid() != 0:
        return "only root can build and run images here"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "this machine allows no mount namespaces"
    return None


def _driver(folder: Path) -> str:
    """An overlay does not lie on another one."""
    told = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    return "vfs" if told.stdout.strip() in ("overlayfs", "overlay") else "overlay"


class Engine:
    """``with Engine() as engine``: both commands, on storage below ``engine.root``."""

    def __init__(self) -> None:
        # Short: the paths of unix sockets are in there.
        self.root = Path(tempfile.mkdtemp(prefix="sse-"))
        containers, storage = self.root / "containers.conf", self.root / "storage.conf"
        containers.write_text(CONTAINERS.format(root=self.root))
        storage.write_text(STORAGE.format(root=self.root, driver=_driver(self.root)))
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(containers),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "TMPDIR": str(self.root),
        }

    @property
    def graph(self) -> Path:
        """The folder of its images and containers."""
        return self.root / "graph"

    def take(self, graph: Path) -> None:
        """Begin with the images of another engine's ``graph``, which has ended. Nothing writes into a layer, so the files
        are shared where both are on one file system.
        """
        if subprocess.run(["cp", "-al", str(graph), str(self.graph)], capture_output=True).returncode:
            shutil.rmtree(self.graph, ignore_errors=True)
            subprocess.run(["cp", "-a", str(graph), str(self.graph)], check=True)
        # What is written to in its place: locks, and podman's own book of containers and folders.
        for lock in self.graph.rglob("*.lock"):
            if lock.parent.parent == self.graph or lock.parent == self.graph:
                lock.unlink()
        shutil.rmtree(self.graph / "libpod", ignore_errors=True)

    def run(
        self, *command: object, given: str = "", timeout: float = 300.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and wait for its end, which has to be a good one unless ``check`` is False.

        ``given`` is its standard input.
        """
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            capture_output=True,
            text=True,
            input=given,
            timeout=timeout,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def build(self, context: Path, *options: object, timeout: float = 900.0) -> None:
        """Build the Dockerfile of ``context`` with nothing pulled, and with what this machine needs to reach PyPI."""
        # With docker's format, since the other one has no health check.
        command: list[object] = ["buildah", "build", "--isolation", "chroot", "--pull-never", "--format", "docker"]
        authorities = os.environ.get("SSL_CERT_FILE")
        if authorities is not None and Path(authorities).is_file():
            command += ["--volume", f"{authorities}:/etc/ssl/certs/ca-certificates.crt:ro"]
        self.run(*command, *options, context, timeout=timeout)

    def remove_containers(self) -> None:
        """End and remove whatever runs, and its pods."""
        self.run("podman", "pod", "rm", "--all", "--force", "--time", "0", check=False)
        self.run("podman", "rm", "--all", "--force", "--volumes", "--time", "0", check=False)

    def unmount(self) -> None:
        """Undo the mounts below our folder, the deepest first: what is mounted cannot be removed."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove_containers()
        self.run("buildah", "rm", "--all", check=False)
        self.unmount()
        shutil.rmtree(self.root)


class Container:
    """A container that was started in the background."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    @classmethod
    def start(cls, engine: Engine, image: str, *command: object, options: Sequence[object] = ()) -> Self:
        """Start one with what ``options`` of `podman run` and the image say."""
        done = engine.run("podman", "run", "--detach", "--network", "host", *options, image, *command)
        return cls(engine, done.stdout.strip())

    def execute(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return how it ended."""
        return self._engine.run("podman", "exec", self.name, *command, check=False)

    def is_healthy(self) -> bool:
        """Whether its own health check says so now; podman has nothing to run it by the clock where systemd is not."""
        return self._engine.run("podman", "healthcheck", "run", self.name, check=False).returncode == 0

    def inspect(self, template: str) -> str:
        """What podman knows about it."""
        return self._engine.run("podman", "inspect", "--format", template, self.name).stdout.strip()

    def logs(self) -> str:
        """What it has written."""
        done = self._engine.run("podman", "logs", self.name)
        return done.stdout + done.stderr

    def stop(self, seconds: int = 40) -> int:
        """Send TERM, wait for the end, and return the exit code: 137 if it had to be killed after ``seconds``."""
        self._engine.run("podman", "stop", "--time", seconds, self.name, timeout=seconds + 60)
        return int(self.inspect("{{.State.ExitCode}}"))
