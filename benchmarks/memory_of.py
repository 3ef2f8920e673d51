"""What a process and the kernel hold in memory, as /proc tells it."""

from __future__ import annotations

from pathlib import Path


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{path} has no {name}")


def rss_anon(pid: int | str) -> int:
    """Return the resident anonymous memory of a process, in bytes."""
    return _field(f"/proc/{pid}/status", "RssAnon")


def slab() -> int:
    """Return what the kernel's slab allocator holds for the whole machine, sockets and their buffers included, in bytes."""
    return _field("/proc/meminfo", "Slab")
