"""A client for tests that takes the place of a WSGI server: it iterates a stream and parses what comes."""

from __future__ import annotations

from sse_core import Event, EventParser, EventStream


class Client:
    """Iterates a stream as a WSGI server does."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.parser = EventParser()
        self.raw = b""
        self._waiting: list[Event] = []

    def read(self, count: int) -> list[Event]:
        """Wait for the next events."""
        while len(self._waiting) < count:
            self._waiting += self._next()
        events, self._waiting = self._waiting[:count], self._waiting[count:]
        return events

    def to_end(self) -> list[Event]:
        """All events that are left, once the stream has ended."""
        while True:
            try:
                self._waiting += self._next()
            except StopIteration:
                events, self._waiting = self._waiting, []
                return events

    def leave(self) -> None:
        """Close the connection."""
        self.stream.close()

    def _next(self) -> list[Event]:
        chunk = next(self.stream)
        self.raw += chunk
        return self.parser.feed(chunk)
