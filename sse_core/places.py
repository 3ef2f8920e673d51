"""Places for streams: those that are open, and those that are on their way to being so."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from sse_core.fanout.engine import Engine
    from sse_core.stream import EventStream


class Places:
    """The streams of a process that were opened and not yet adopted: between the two their clients get the head.

    Without them, clients that come at once would all find the same room. Thread-safe, but for `taken` and `keep` together:
    whoever keeps a place because one is free holds a lock around both.
    """

    def __init__(self) -> None:
        # Weak: a stream that is dropped without a word, as by a view that failed, gives its place back by that.
        self._opened: WeakSet[EventStream] = WeakSet()

    def taken(self, engine: Engine | None) -> int:
        """How many streams there are: opened, on their way to a loop, and open."""
        return len(self._opened) + (0 if engine is None else engine.places())

    def keep(self, stream: EventStream) -> None:
        """Keep a place for a stream until it is given back, or the stream is no more."""
        self._opened.add(stream)

    def give_back(self, stream: EventStream) -> None:
        """Give back the place of a stream, if it has one here: the engine counts it now, or its client has left."""
        self._opened.discard(stream)
