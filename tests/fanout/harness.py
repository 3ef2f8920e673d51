"""An engine with ids that the test gives, and subscribers on socket pairs: full control of what is sent and what is read."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sse_core import Event, EventParser
from sse_core.fanout.engine import Engine
from sse_core.framing import frame
from sse_core.ids import format_id, parse_id

TIMEOUT = 30.0


def number(text: str) -> int:
    """The number of an id's text."""
    found = parse_id(text)
    assert found is not None, text
    return found


BORN = number("1000-0")

#: What an engine is made with unless a test says otherwise.
OPTIONS: dict[str, Any] = {
    "loops": 1,
    "born": BORN,
    "max_topics": 1000,
    "keepalive_ms": 60_000,
    "send_timeout_ms": 60_000,
    "drain_retry": (1000, 5000),
    "mailbox_bytes": 1 << 24,
    "history_bytes": 1 << 30,
    "ration": 1 << 18,
    "gap_event": b"gap",
}


def eventually(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait until `condition` holds: for facts that no event announces."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {TIMEOUT} s"
        time.sleep(0.002)


class Subscriber:
    """The client's end of a socket pair whose other end an engine has adopted."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.socket.settimeout(TIMEOUT)
        self.parser = EventParser()
        self.events: list[Event] = []
        self.raw = b""
        self.ended = False

    def receive(self, size: int = 65536) -> bool:
        """Read once; False at the end of the stream."""
        chunk = self.socket.recv(size)
        self.raw += chunk
        self.events += self.parser.feed(chunk)
        self.ended = not chunk
        return bool(chunk)

    def until(self, ident: str, size: int = 65536) -> list[Event]:
        """All events up to where the client's cursor is `ident`."""
        while self.parser.last_event_id != ident:
            assert self.receive(size), f"the stream ended at {self.parser.last_event_id}, before {ident}"
        return self.events

    def to_end(self) -> list[Event]:
        """All events up to the end of the stream."""
        while self.receive():
            pass
        return self.events

    @property
    def ids(self) -> list[str | None]:
        """The ids of the events received, gaps left out."""
        return [event.id for event in self.events if event.event != "gap"]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """The data of the gap events received, each with the event's own id."""
        return [json.loads(event.data or "") | {"id": event.id} for event in self.events if event.event == "gap"]


class Feed:
    """An engine, its topics, and the next id."""

    def __init__(self, topics: Iterable[str] = ("a",), *, topic_options: dict[str, Any] | None = None, **options: Any):
        self.engine = Engine(**{**OPTIONS, **options})
        self.last = BORN
        self.numbers: dict[str, int] = {}
        for topic in topics:
            self.open(topic, **(topic_options or {}))

    def open(self, topic: str, **options: Any) -> None:
        """Make a topic known."""
        self.numbers[topic] = len(self.numbers)
        self.engine.open_topic(
            self.numbers[topic],
            json.dumps(topic).encode(),
            **{
                "policy": "disconnect",
                "max_events": 100_000,
                "max_bytes": 1 << 26,
                "age_ms": 0,
                "lag": 1 << 26,
                "floor": BORN,
                **options,
            },
        )

    def publish(self, topic: str = "a", data: str = "x") -> str:
        """Append one event with the next id, and return that."""
        self.last += 1
        text = format_id(self.last)
        eventually(
            lambda: self.engine.append(self.numbers[topic], self.last, frame(Event(data), text)), "room in the mailbox"
        )
        return text

    def subscribe(
        self,
        topics: Iterable[str] = ("a",),
        *,
        after: str | None = None,
        unknown: bool = False,
        buffer: int | None = None,
        lasts_ms: int = 0,
        tag: int | None = None,
    ) -> Subscriber:
        """A subscriber that resumes after an id, or is fresh; `buffer` makes its socket as small as the kernel allows."""
        client, server = socket.socketpair()
        if buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        server.setblocking(False)
        self.engine.adopt(
            server.fileno(),
            len(self.numbers) if tag is None else tag,
            [self.numbers[topic] for topic in topics],
            self.last if after is None else number(after),
            fresh=after is None and not unknown,
            unknown=unknown,
            lasts_ms=lasts_ms,
        )
        server.detach()
        return Subscriber(client)

    def count(self, name: str) -> int:
        """A counter of the engine."""
        return self.engine.counters()[name]

    def settle(self, streams: int) -> None:
        """Wait until so many streams are open."""
        eventually(lambda: self.engine.streams() == streams, f"{streams} open streams")


@contextmanager
def feed(topics: Iterable[str] = ("a",), **options: Any) -> Iterator[Feed]:
    """A feed whose engine is closed at the end."""
    made = Feed(topics, **options)
    try:
        yield made
    finally:
        made.engine.stop()
