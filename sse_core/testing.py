"""For tests of applications that stream: a reader of events, and a ledger that finds loss, duplicates and disorder.

Both are plain and slow on purpose: they are the judge, and share nothing with the engine but the parser.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sse_core.errors import SSEError
from sse_core.event import Event
from sse_core.ids import parse_id
from sse_core.parsing import EventParser

_CHUNK = 65536


class StreamEnded(SSEError):
    """The stream ended before what was asked for had come."""


class StreamReader:
    """Reads one event stream over a socket: the response's head, then events. For one thread.

    ``address`` is a (host, port) pair or the path of a unix socket. ``last_event_id`` is sent as the header of that name.
    `TimeoutError` is raised where something does not come within ``timeout`` seconds, `StreamEnded` where it cannot any more.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
    ) -> None:
        self._timeout = timeout
        self._parser = EventParser()
        self._waiting: list[Event] = []
        self._returned = last_event_id or ""
        self._rest = b""
        self._chunked = False
        self._ended = False
        #: Whether the other end broke the connection (RST) rather than ended it.
        self.reset = False
        #: Bytes of the body as they came, after the transfer coding was removed.
        self.raw = b""
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
            fields = {"Host": "localhost", "Accept": "text/event-stream", **(headers or {})}
            if last_event_id is not None:
                fields["Last-Event-ID"] = last_event_id
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            self.socket.sendall("\r\n".join(lines).encode())
            self.status, self.headers = self._read_head()
        except BaseException:
            self.socket.close()
            raise

    def _read_head(self) -> tuple[int, dict[str, str]]:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = self.socket.recv(_CHUNK)
            if not chunk:
                raise StreamEnded(f"the connection ended within the response's head: {head!r}")
            head += chunk
        head, _, self._rest = head.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        return int(status.split(" ", 2)[1]), headers

    @property
    def last_event_id(self) -> str:
        """What a browser that has handled the events returned so far would send to resume.

        Blocks with only an id count, unless events that were not returned yet have come before them.
        """
        return self._returned if self._waiting else self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that was last told, in milliseconds."""
        return self._parser.retry

    def read(self, count: int = 1) -> list[Event]:
        """Return the next `count` events, waiting for them."""
        deadline = time.monotonic() + self._timeout
        while len(self._waiting) < count:
            if not self._receive(deadline):
                raise StreamEnded(f"the stream ended after {len(self._waiting)} of {count} events")
        events, self._waiting = self._waiting[:count], self._waiting[count:]
        self._returned = next((event.id for event in reversed(events) if event.id is not None), self._returned)
        return events

    def read_until_id(self, last_event_id: str) -> None:
        """Wait until the client's cursor is `last_event_id`, as events or blocks with only an id move it."""
        deadline = time.monotonic() + self._timeout
        while self._parser.last_event_id != last_event_id:
            if not self._receive(deadline):
                raise StreamEnded(f"the stream ended at id {self._parser.last_event_id}, before {last_event_id}")

    def read_to_end(self) -> list[Event]:
        """Return all events up to the end of the stream."""
        deadline = time.monotonic() + self._timeout
        while self._receive(deadline):
            pass
        events, self._waiting = self._waiting, []
        return events

    def __iter__(self) -> Iterator[Event]:
        while True:
            try:
                yield from self.read()
            except StreamEnded:
                return

    def _receive(self, deadline: float) -> bool:
        """Feed what comes next to the parser; False at the end of the stream."""
        if self._ended:
            return False
        chunk, self._rest = self._rest, b""
        if not chunk or (self._chunked and b"\r\n" not in chunk):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing more came within {self._timeout} s")
            self.socket.settimeout(left)
            try:
                received = self.socket.recv(_CHUNK)
            except ConnectionResetError:
                self.reset = True
                received = b""
            if not received:
                self._ended = True
                return False
            chunk += received
        body = self._unchunk(chunk) if self._chunked else chunk
        self.raw += body
        self._waiting += self._parser.feed(body)
        return True

    def _unchunk(self, data: bytes) -> bytes:
        """Remove the chunked coding (RFC 9112, section 7.1) from whole chunks; the rest waits for more bytes."""
        body = b""
        while data:
            size_line, found, after = data.partition(b"\r\n")
            size = int(size_line.split(b";")[0], 16) if found else 0
            if not found or len(after) < size + 2:
                self._rest = data
                more = self.socket.recv(_CHUNK)
                if not more:
                    self._ended = True
                    return body
                data, self._rest = self._rest + more, b""
                continue
            if size == 0:
                self._ended = True
                return body
            body += after[:size]
            data = after[size + 2 :]
        return body

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Fault:
    """Something that a stream got wrong. ``id`` is the event's id on the wire."""

    kind: Literal["lost", "duplicate", "disorder", "unknown", "altered"]
    stream: str
    topic: str
    id: str


@dataclass
class _Subscription:
    topics: frozenset[str]
    after: int
    received: list[Event]


class Ledger:
    """Knows what was published and what each stream received, and tells the difference. Thread-safe.

    A *stream* is one subscriber across all its reconnections. What a gap event told it to be lost is no fault.
    """

    def __init__(self, gap_event: str = "gap") -> None:
        self._lock = threading.Lock()
        self._gap_event = gap_event
        self._published: dict[int, tuple[str, str | None]] = {}
        self._streams: dict[str, _Subscription] = {}

    def published(self, topic: str, event_id: str, data: str | None = None) -> None:
        """Note an event whose publishing was answered with success. With ``data`` its content is checked too."""
        with self._lock:
            self._published[_number(event_id)] = (topic, data)

    def subscribed(self, stream: str, topics: Iterable[str], *, after: str) -> None:
        """Note that a stream is owed everything of `topics` that comes after the id `after`."""
        with self._lock:
            self._streams[stream] = _Subscription(frozenset(topics), _number(after), [])

    def received(self, stream: str, event: Event) -> None:
        """Note an event that a stream received, gap events included."""
        with self._lock:
            self._streams[stream].received.append(event)

    def faults(self, *, until: str | None = None) -> list[Fault]:
        """Everything that is wrong, for all streams. ``until``: what came later need not have arrived yet."""
        last = None if until is None else _number(until)
        with self._lock:
            return [
                fault
                for stream, subscription in self._streams.items()
                for fault in self._judge(stream, subscription, last)
            ]

    def told(self) -> list[tuple[str, dict[str, str | None]]]:
        """The gaps that streams were told: the stream's name, and the data of the gap event."""
        with self._lock:
            return [
                (stream, json.loads(event.data or "{}"))
                for stream, subscription in self._streams.items()
                for event in subscription.received
                if event.event == self._gap_event
            ]

    def _judge(self, stream: str, subscription: _Subscription, last: int | None) -> Iterator[Fault]:
        seen: set[int] = set()
        excused: dict[str, int] = {}
        newest = 0
        for event in subscription.received:
            number = parse_id(event.id or "") or 0
            if event.event == self._gap_event:
                topic = json.loads(event.data or "{}")["topic"]
                excused[topic] = max(excused.get(topic, 0), number)
                newest = max(newest, number)
                continue
            if number not in self._published:
                yield Fault("unknown", stream, "", event.id or "")
                continue
            topic, data = self._published[number]
            if topic not in subscription.topics:
                yield Fault("unknown", stream, topic, event.id or "")
            if number in seen:
                yield Fault("duplicate", stream, topic, event.id or "")
            elif number < newest:
                yield Fault("disorder", stream, topic, event.id or "")
            if data is not None and data != event.data:
                yield Fault("altered", stream, topic, event.id or "")
            seen.add(number)
            newest = max(newest, number)
        for number, (topic, _) in sorted(self._published.items()):
            owed = topic in subscription.topics and number > subscription.after and (last is None or number <= last)
            if owed and number not in seen and number > excused.get(topic, 0):
                yield Fault("lost", stream, topic, f"{number >> 20}-{number & 0xFFFFF}")


def _number(event_id: str) -> int:
    number = parse_id(event_id)
    if number is None:
        raise ValueError(f"no id of a hub: {event_id!r}")
    return number
