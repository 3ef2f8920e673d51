"""The nginx that is to run a configuration: where it is, what it can do, and what it says of the configuration."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .site import Version

CHECK_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """One nginx."""

    path: str
    version: Version
    #: The options it was built with, e.g. ``http_v3_module``.
    modules: frozenset[str]


class ProgramError(RuntimeError):
    """What was started is no nginx, or it rejects the configuration. The text has its words."""


def parse_version(text: str) -> Version:
    """Return (1, 25, 1) of "1.25.1". Raises ValueError."""
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a version such as 1.26.3")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def find(path: str | None = None) -> Program | None:
    """Return the nginx at ``path``, or that of this machine, if there is one. Raises `ProgramError`."""
    # A plain user's PATH has no sbin.
    search = os.pathsep.join([*os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(path or "nginx", path=search)
    if found is None:
        if path is not None:
            raise ProgramError(f"{path} cannot be executed")
        return None
    told = subprocess.run([found, "-V"], capture_output=True, text=True, timeout=CHECK_SECONDS, check=False).stderr
    version = re.search(r"nginx version: [^/\s]+/(\d+\.\d+\.\d+)", told)
    if version is None:
        raise ProgramError(f"{found} -V does not say nginx's version: {told[:200]!r}")
    return Program(found, parse_version(version[1]), frozenset(re.findall(r"--with-(\w+)", told)))


def command(prefix: Path, program: Program) -> list[str]:
    """Return the command that runs nginx in the foreground in a rendered ``prefix``.

    Its workers run as whoever starts it, root included, which is for a machine of one's own.
    """
    directives = "daemon off;"
    if os.geteuid() == 0:
        # nginx's own choice, nobody, may not pass the folders that lead to the socket.
        directives += f" user {pwd.getpwuid(0).pw_name};"
    return [program.path, *_where(prefix), "-g", directives]


def check(prefix: Path, program: Program) -> None:
    """Let nginx check a rendered ``prefix``. Raises `ProgramError` with its words; a warning is an error, too."""
    told = subprocess.run(
        [program.path, "-t", "-q", *_where(prefix)], capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
    )
    if told.returncode != 0 or told.stderr.strip():
        raise ProgramError(told.stderr.strip() or f"{program.path} -t ended with status {told.returncode}")


def _where(prefix: Path) -> list[str]:
    return ["-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
