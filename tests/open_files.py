"""Which files of a folder a process has open, those too that have no name any more or never had one."""

from __future__ import annotations

import os
from pathlib import Path


def open_files(folder: Path, pid: int | None = None) -> list[str]:
    """Return the targets of the descriptors of a process, this one if none is named, that lie in ``folder``."""
    found = []
    for descriptor in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/"):
            found.append(target)
    return found
