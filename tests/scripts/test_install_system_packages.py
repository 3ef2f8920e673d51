"""What `make build` asks of the system, with the system's own commands replaced."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/install-system-packages"


class System:
    """A system with few commands: those of ``here``, and those that a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()
        for name in ("bash", "env"):
            path = shutil.which(name)
            assert path is not None
            (folder / name).symlink_to(path)

    def add(self, name: str, script: str = "exit 0") -> None:
        """Add a command."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{script}\n')
        path.chmod(0o755)

    def run(self, purpose: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        """Run the script in this system."""
        environment = {"PATH": str(self.folder), "PYTHON": python}
        bash = str(self.folder / "bash")
        return subprocess.run(
            [bash, str(SCRIPT), purpose], env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def system(tmp_path: Path) -> System:
    system = System(tmp_path)
    system.add("nginx")
    return system


def test_nothing_is_missing(system: System) -> None:
    """Where all is there nothing is installed, and nothing is said."""
    system.add("gcc")
    done = system.run("run")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_installs_what_is_missing(system: System) -> None:
    """Root gets exactly what is missing, and no more: without the tests no browser."""
    system.add("id", "echo 0")
    system.add("apt-get")
    done = system.run("run")

    assert done.returncode == 0
    assert "Missing: gcc libc6-dev" in done.stdout
    assert "install -qq -y --no-install-recommends gcc libc6-dev" in system.calls.read_text()
    assert "chromium" not in system.calls.read_text()
    assert "redis" not in system.calls.read_text()


def test_redis_only_when_it_is_asked_for(system: System) -> None:
    """Redis is installed for those who run with it, and not a second time."""
    system.add("gcc")
    system.add("id", "echo 0")
    system.add("apt-get")
    done = system.run("redis")

    assert "Missing: redis-server\n" in done.stdout
    assert "install -qq -y --no-install-recommends redis-server" in system.calls.read_text()
    system.add("redis-server")
    assert system.run("redis").stdout == ""


@pytest.mark.parametrize(
    ("purpose", "packages"),
    [
        ("run", ""),
        ("redis", "redis-server"),
        ("check", "kubernetes-client"),
        ("test", "redis-server kubernetes-client"),
    ],
)
def test_each_purpose_has_its_own(system: System, purpose: str, packages: str) -> None:
    """Each purpose has what it needs installed: what renders manifests is for checks and for tests."""
    here = [
        "gcc",
        "chromium",
        "prometheus",
        "prometheus-nginx-exporter",
        "prometheus-redis-exporter",
        "systemd-analyze",
    ]
    for name in [*here, "buildah", "podman", "runc", "conmon", "catatonit", "mmdebstrap"]:
        system.add(name)
    system.add("id", "echo 0")
    system.add("apt-get")
    done = system.run(purpose)

    assert done.returncode == 0
    assert done.stdout == (f"Missing: {packages}\n" if packages else "")


def test_others_are_told(system: System) -> None:
    """Who may not install is told the command that root must run."""
    system.add("id", "echo 1000")
    system.add("apt-get")
    done = system.run("test")

    assert done.returncode == 1
    assert "sudo apt-get install gcc libc6-dev redis-server chromium fonts-liberation" in done.stderr
    assert "apt-get" not in system.calls.read_text()


def test_no_debian(system: System) -> None:
    """Without apt-get the missing packages are named."""
    done = system.run("run")

    assert done.returncode == 1
    assert "Missing: gcc libc6-dev" in done.stdout
    assert "no Debian" in done.stderr


def test_an_old_python(system: System) -> None:
    """A Python that is too old is told at once, with what to do."""
    system.add("python3.9", '[ "$1" = -V ] && echo Python 3.9.2; exit 1')
    done = system.run("run", "python3.9")

    assert done.returncode == 1
    assert "3.11 or later is needed" in done.stderr
    assert "make PYTHON=" in done.stderr
