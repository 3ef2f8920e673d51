"""A growing file as whole lines: bytes to lines, and one open file that is read to its end again and again."""

from __future__ import annotations

import codecs
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READ_BYTES = 65_536
# Compared with each read: a file that was truncated and has grown beyond our place since is told by other bytes there.
FINGERPRINT_BYTES = 64
# The last lines of a file are looked for in at most this much of it, however long they are.
INITIAL_BYTES = 1 << 20


class NotAFileError(OSError):
    """The path names something that has no end to read to: a pipe, a device, a folder."""


class TruncatedError(Exception):
    """The file no longer holds what was read from it."""


class Line(NamedTuple):
    """One line without its line end; ``cut`` bytes were left out of it at the end. It begins at byte ``start`` of its file."""

    text: str
    cut: int = 0
    start: int = 0


class Place(NamedTuple):
    """How far a file was read, in a form that outlives the process.

    ``generation`` tells apart files that had the same inode one after the other, and what a truncated file held before
    and holds since. The next line begins at byte ``start``; what was read ends at ``end`` with bytes of this ``checksum``.
    """

    generation: int
    device: int
    inode: int
    start: int
    end: int
    checksum: int


class LineSplitter:
    """Splits what is fed into whole lines (LF or CRLF), in memory bounded by ``max_bytes`` of one line."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept = bytearray()
        self._cut = 0
        #: Where the line begins that is not finished yet.
        self.start = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that ``data`` completes; what follows the last line end waits."""
        first, *others = data.split(b"\n")
        self._append(first)
        for piece in others:
            yield self._take()
            self._append(piece)

    def rest(self) -> Line | None:
        """Take the unfinished line, if there is one: its file is over."""
        return self._take() if self._kept else None

    def _append(self, piece: bytes) -> None:
        room = self._max_bytes - len(self._kept)
        self._kept += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> Line:
        kept, cut, start = bytes(self._kept), self._cut, self.start
        self._kept.clear()
        self._cut = 0
        self.start += len(kept) + cut + 1
        if not cut:
            return Line(kept.removesuffix(b"\r").decode("utf-8", "replace"), 0, start)
        # Not final: a character that the cut divides is left out instead of becoming a replacement character.
        text, used = codecs.utf_8_decode(kept, "replace", False)
        return Line(text, cut + len(kept) - used, start)


class OpenLog:
    """One open file and how far it has been read. It stays the same file when the path is renamed or removed."""

    def __init__(self, path: Path, max_line_bytes: int, generation: int = 0) -> None:
        """Open ``path`` at its start. Raises OSError, and `NotAFileError` for what is not a regular file."""
        # Without O_NONBLOCK the open of a pipe would wait for its writer.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise NotAFileError(f"not a regular file: {path}")
        self._identity = status.st_dev, status.st_ino
        self._splitter = LineSplitter(max_line_bytes)
        #: One more with each restart; see `Place`.
        self.generation = generation
        self._offset = 0
        self._fingerprint = b""

    def is_at(self, path: Path) -> bool | None:
        """Tell whether ``path`` still names this file; None if it names none."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        # The number cannot be given to another file while this one is open.
        return (status.st_dev, status.st_ino) == self._identity

    @property
    def place(self) -> Place:
        """How far this file was read."""
        checksum = zlib.crc32(self._fingerprint)
        return Place(self.generation, *self._identity, self._splitter.start, self._offset, checksum)

    def resume(self, place: Place) -> bool:
        """Go on at a place of this very file; False if the file no longer holds what was read up to there."""
        length = min(place.end, FINGERPRINT_BYTES)
        known = os.pread(self._fd, length, place.end - length)
        if place[1:3] != self._identity or len(known) != length or zlib.crc32(known) != place.checksum:
            return False
        self.generation = place.generation
        self._seek(place.start)
        return True

    def unread_bytes(self) -> int:
        """How much of the file comes after the lines that were read."""
        return max(0, os.fstat(self._fd).st_size - self._splitter.start)

    def modified_ns(self) -> int:
        """When the file was last written to, in nanoseconds since 1970."""
        return os.fstat(self._fd).st_mtime_ns

    def skip_to_last(self, lines: int) -> None:
        """Go to the start of the ``lines``-th line from the end; an unfinished line at the end is not counted."""
        size = os.fstat(self._fd).st_size
        start = max(0, size - INITIAL_BYTES)
        block = os.pread(self._fd, size - start, start)
        at = block.rfind(b"\n") + 1
        if not at:
            # No line ends here. A line that began before the block is not shown from its middle on.
            self._seek(size if start else 0)
            return
        for _ in range(lines):
            at = block.rfind(b"\n", 0, at - 1) + 1
            if not at:
                # Fewer lines than asked for: all of them, or, when the block begins within a line, those after it.
                at = 0 if not start else block.find(b"\n") + 1
                break
        self._seek(start + at)

    def read(self) -> list[Line] | None:
        """Read at most `READ_BYTES` further and return the lines that end there; None at the end of the file.

        Raises `TruncatedError` if what was read before has gone from the file.
        """
        known = self._fingerprint
        # In one call: between a check and a read of their own the file could be truncated and grow beyond our place.
        data = os.pread(self._fd, len(known) + READ_BYTES, self._offset - len(known))
        if not data.startswith(known):
            raise TruncatedError
        if len(data) == len(known):
            return None
        self._fingerprint = data[-FINGERPRINT_BYTES:]
        fresh = data[len(known) :]
        self._offset += len(fresh)
        return list(self._splitter.feed(fresh))

    def restart(self) -> Line | None:
        """Go back to the start of a truncated file; returns the unfinished line that can no longer be completed."""
        unfinished = self._splitter.rest()
        self.generation += 1
        self._seek(0)
        return unfinished

    def rest(self) -> Line | None:
        """Take the unfinished line at the end of a file that nobody writes to any more."""
        return self._splitter.rest()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _seek(self, offset: int) -> None:
        self._offset = self._splitter.start = offset
        length = min(offset, FINGERPRINT_BYTES)
        self._fingerprint = os.pread(self._fd, length, offset - length)
