"""A client of a stream that is iterated in this process."""

from __future__ import annotations

from sse_core import Event, EventParser, EventStream


class Client:
    """Iterates a stream as a WSGI server does, and parses what comes."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.parser = EventParser()
        self.events: list[Event] = []

    def read(self, count: int) -> list[Event]:
        while len(self.events) < count:
            self.events += self.parser.feed(next(self.stream))
        events, self.events = self.events[:count], self.events[count:]
        return events

    def until(self, ident: str) -> list[Event]:
        while self.parser.last_event_id != ident:
            self.events += self.parser.feed(next(self.stream))
        return self.events
