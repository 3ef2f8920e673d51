"""Decisions read off the fuzzer's bytes, one after another; all zero once they are used up."""

from __future__ import annotations


class Choices:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that nobody has taken."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at = min(self._at + count, len(self._data))
        return taken

    def number(self, below: int) -> int:
        """Return a number from 0 to ``below`` - 1."""
        size = (max(below - 1, 1).bit_length() + 7) // 8
        return int.from_bytes(self.take(size), "big") % below

    def text(self, most: int) -> str:
        """Return some text that can be encoded, whatever is in it."""
        return self.take(self.number(most + 1)).decode("utf-8", "replace")
