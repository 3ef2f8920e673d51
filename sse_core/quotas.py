"""How many streams there are of each client: whatever a stream counts for, until it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Quotas:
    """Streams by what they count for. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._streams: dict[int, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        # Streams of one client share one tuple of names: ten thousand streams are not ten thousand texts.
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._streams)

    def full(self, quotas: Mapping[str, int]) -> str | None:
        """The name of a quota that one more stream would exceed; None if there is room in all of them."""
        return next((name for name, most in quotas.items() if self._counts[name] >= most), None)

    def enter(self, stream: int, quotas: Mapping[str, int]) -> None:
        """A stream begins."""
        names = tuple(quotas)
        self._streams[stream] = self._names.setdefault(names, names)
        self._counts.update(names)

    def leave(self, stream: int) -> None:
        """A stream has ended; one that counted for nothing is none of ours."""
        names = self._streams.pop(stream, ())
        for name in names:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
                self._names.pop(names, None)

    def counts(self) -> dict[str, int]:
        """How many streams each has."""
        return dict(self._counts)
