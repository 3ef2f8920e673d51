"""Both distributions of this project, built from its sources, and an environment in which they are all there is.

Nothing is fetched: the tools that build are those of the environment the tests run in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = (
    ".ci",
    "benchmarks",
    "deploy",
    "docs",
    "examples",
    "k8s",
    "loadtest",
    "nginx",
    "scripts",
    "service",
    "sse_core",
    "tests",
)
BUILT = shutil.ignore_patterns("*.so", "*.c", "__pycache__", ".build", "*.egg-info")


def run(*command: object, environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command that has to succeed and return what it printed."""
    # An option of the machine's pip must not decide what a test installs.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "SSE_KIT_"))}
    done = subprocess.run(
        [str(part) for part in command], env=clean | (environment or {}), cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Distributions:
    """Both distributions, and a new environment in which the wheel is all there is."""

    def __init__(self, folder: Path) -> None:
        # A copy, since a build writes C files and metadata beside its sources.
        tree = folder / "tree"
        tree.mkdir()
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, tree)
        for name in WRITTEN:
            shutil.copytree(ROOT / name, tree / name, ignore=BUILT)
        self.sources = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
        run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, tree)
        (self.sdist,) = folder.glob("*.tar.gz")
        offline = ("--isolated", "--no-index", "--no-cache-dir", "--disable-pip-version-check")
        # What pip does with a source distribution before it installs it.
        run(sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", folder / "wheel", self.sdist)
        (self.wheel,) = (folder / "wheel").iterdir()
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=True)
        self.bin = environment / "bin"
        self.python = self.bin / "python"
        # No index and no --no-deps: it can only succeed if there is nothing else to install.
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *offline, self.wheel)

    def written(self, folder: str, *suffixes: str) -> set[str]:
        """The files of a folder that have one of the suffixes, by their paths; taken from the copy that was built."""
        return {name for name in self.sources if name.startswith(f"{folder}/") and Path(name).suffix in suffixes}

    def sdist_files(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}

    def wheel_files(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(name).decode())
