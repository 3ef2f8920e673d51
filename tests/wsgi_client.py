"""A client for tests that takes the place of a WSGI server, and generators that wait for the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from sse_core import Event, EventParser, EventStream


class Client:
    """Iterates a stream as a WSGI server does."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.parser = EventParser()
        self.raw = b""
        self.events: list[Event] = []

    def read(self, count: int) -> list[Event]:
        """Wait for the next events."""
        while len(self.events) < count:
            self.events += self._next()
        events, self.events = self.events[:count], self.events[count:]
        return events

    def until(self, ident: str) -> list[Event]:
        """All events up to where the client's cursor is this id; they stay to be read."""
        while self.parser.last_event_id != ident:
            self.events += self._next()
        return self.events

    def to_end(self) -> list[Event]:
        """All events that are left, once the stream has ended."""
        while True:
            try:
                self.events += self._next()
            except StopIteration:
                events, self.events = self.events, []
                return events

    def leave(self) -> None:
        """Close the connection."""
        self.stream.close()

    def _next(self) -> list[Event]:
        chunk = next(self.stream)
        self.raw += chunk
        return self.parser.feed(chunk)


def waiting(gate: threading.Event, *items: str) -> Callable[[], Iterator[str]]:
    """A source of some items that then waits, and ends with one more."""

    def generator() -> Iterator[str]:
        yield from items
        assert gate.wait(10)
        yield "last"

    return generator
