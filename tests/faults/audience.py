"""Hundreds of streams in one thread, each of which behaves as a browser's `EventSource` (HTML standard, section 9.2).

A stream that ends, for whatever reason, is opened again after its reconnection time with the last id that it has seen, at
a server chosen by chance. A status other than 200 ends it for good. Everything that it receives is kept for the judge.
"""

from __future__ import annotations

import heapq
import json
import random
import re
import resource
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode

from sse_core import Event, EventParser
from sse_core.ids import parse_id

GAP = "gap"
_CHUNK = 65536
# RFC 9112: the fields of a head, and the end of a body that comes in chunks.
_FIELD = re.compile(rb"(?m)^([a-z-]+): *([^\r\n]*)")
_LAST_CHUNK = re.compile(rb"\r\n0\r\n\r\n$")
# Descriptors of the process that are no streams: publishers, servers' logs, the test runner's own.
_SPARE_DESCRIPTORS = 256
# A browser waits for so long where the server has not said otherwise. Here one always has, after the first block.
_RETRY = 0.2


class Disconnect(NamedTuple):
    """The end of one connection: when (monotonic seconds), and the reason as the client sees it."""

    at: float
    reason: str


class EventSource:
    """One stream across all of its connections. Written by the audience's thread only; reading is safe at any time."""

    def __init__(self, name: str, topics: Sequence[str]) -> None:
        self.name = name
        self.topics = tuple(topics)
        #: The id after which it is owed everything: the one that the first server told it when it opened. Then: when.
        self.after: str | None = None
        self.primed_at = 0.0
        #: What it would send as ``Last-Event-ID``.
        self.cursor = ""
        #: Every event in the order of arrival, those named gap included.
        self.received: list[Event] = []
        #: The number of the newest event by topic, gaps included.
        self.newest: dict[str, int] = dict.fromkeys(topics, 0)
        self.disconnects: list[Disconnect] = []
        #: The answer that ended it for good, as a browser would be.
        self.refused: str | None = None
        #: The server that it is connected to, by its address; None while it is not.
        self.server: str | None = None
        self._retry = _RETRY
        self._socket: socket.socket | None = None
        self._head: bytes | None = b""
        self._answer = b""
        self._end_of_body: Callable[[bytes], object] | None = None
        self._parser = EventParser()

    @property
    def is_open(self) -> bool:
        """Whether the head of the response has come, and the connection has not ended."""
        return self._socket is not None and self._head is None

    def connect(self, address: str) -> socket.socket | None:
        """Send the request; None where nobody listens or the queue of those who wait is full."""
        host, _, port = address.rpartition(":")
        connection = socket.socket(socket.AF_INET if host else socket.AF_UNIX)
        # On the loopback the kernel answers at once.
        connection.setblocking(bool(host))
        try:
            connection.connect((host, int(port)) if host else address)
            connection.setblocking(False)
            lines = [
                # nginx would send chunks to a client of HTTP/1.1.
                f"GET /events?{urlencode([('topic', topic) for topic in self.topics])} HTTP/1.{0 if host else 1}",
                "Host: localhost",
                "Accept: text/event-stream",
                *([f"Last-Event-ID: {self.cursor}"] if self.cursor else []),
            ]
            connection.send("\r\n".join([*lines, "", ""]).encode())
        except OSError as error:
            connection.close()
            self._note(type(error).__name__)
            return None
        self.server, self._socket, self._head, self._parser = address, connection, b"", EventParser()
        self._answer, self._end_of_body = b"", None
        return connection

    def read(self) -> bool:
        """Take what has come; False when the connection has ended."""
        assert self._socket is not None
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            self._note(type(error).__name__)
            return False
        if not chunk:
            self._note("end" if self._head is None else "end before the head")
            return False
        return self._take_head(chunk) if self._head is not None else self._take_body(chunk)

    def _take_head(self, chunk: bytes) -> bool:
        assert self._head is not None
        self._head += chunk
        head, found, body = self._head.partition(b"\r\n\r\n")
        if not found:
            return True
        if not head.startswith(b"HTTP/1.1 200 ") or b"\r\ncontent-type: text/event-stream" not in head.lower():
            self.refused = head.decode("latin-1")
            self._note("refused")
            return False
        self._head = None
        fields = dict(_FIELD.findall(head.lower()))
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            self._end_of_body = _LAST_CHUNK.search
        elif b"content-length" in fields:
            self._end_of_body = re.compile(rb"(?s).{%d}" % int(fields[b"content-length"])).match
        return self._take_body(body)

    def _take_body(self, chunk: bytes) -> bool:
        if self._end_of_body is not None:
            # A body that ends by itself, on a connection that may stay, is no stream: it says when to come back.
            self._answer += chunk
            if not self._end_of_body(self._answer):
                return True
            self._feed(b"\n".join(re.findall(rb"(?m)^retry: \d+$", self._answer)) + b"\n\n")
            self._note("sent away")
            return False
        if self.after is None:
            # The id that the stream begins after is in its first block; events may follow in the same chunk.
            end = chunk.find(b"\n\n") + 2
            self._feed(chunk[:end] if end > 1 else chunk)
            if self._parser.last_event_id:
                self.after, self.primed_at = self._parser.last_event_id, time.monotonic()
            chunk = chunk[end:] if end > 1 else b""
        self._feed(chunk)
        return True

    def _feed(self, chunk: bytes) -> None:
        for event in self._parser.feed(chunk):
            self.received.append(event)
            topic = topic_of(event)
            self.newest[topic] = parse_id(event.id or "") or 0
        # A connection that has told no id yet leaves the cursor where it was.
        self.cursor = self._parser.last_event_id or self.cursor
        if self._parser.retry is not None:
            self._retry = self._parser.retry / 1000

    def _note(self, reason: str) -> None:
        self.disconnects.append(Disconnect(time.monotonic(), reason))

    def end(self) -> None:
        """Close the connection, if there is one."""
        connection, self._socket, self.server = self._socket, None, None
        if connection is not None:
            connection.close()

    def cut(self) -> None:
        """Break the connection from the client's side. From any thread; the audience notices and opens it again."""
        connection = self._socket
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def delay(self, chance: random.Random) -> float:
        """Seconds until it comes back: its reconnection time, with some jitter as browsers add it."""
        return self._retry * chance.uniform(1.0, 1.25)


class Audience:
    """A set of streams that stay open for as long as the block lasts: ``with Audience(addresses, plans) as audience``.

    ``addresses`` are the paths of servers' unix sockets, or ``HOST:PORT`` of this machine; ``plans`` the topics of each
    stream. ``source`` makes a stream of its name and topics; tests of the judge give one that misbehaves. The same ``seed``
    makes the same choices.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        plans: Iterable[Sequence[str]],
        *,
        source: Callable[[str, Sequence[str]], EventSource] = EventSource,
        seed: int = 1,
    ) -> None:
        self.streams = [source(f"stream {index}", topics) for index, topics in enumerate(plans)]
        self._addresses = list(addresses)
        self._chance = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int]] = []
        self._moved = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="audience")

    def __enter__(self) -> Self:
        _allow_descriptors(len(self.streams) + _SPARE_DESCRIPTORS)
        self._due = [(0.0, index) for index in range(len(self.streams))]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join()
        for stream in self.streams:
            stream.end()
        self._selector.close()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:
            self._error = error
            raise

    def _turn(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._open(heapq.heappop(self._due)[1])
        # Also how soon an audience that is told to stop looks up.
        wait = min(0.05, self._due[0][0] - now) if self._due else 0.05
        ready = self._selector.select(max(wait, 0.0))
        for key, _ in ready:
            stream = self.streams[key.data]
            if not stream.read():
                self._selector.unregister(key.fileobj)
                stream.end()
                if stream.refused is None:
                    self._come_back(key.data)
        if ready:
            with self._moved:
                self._moved.notify_all()

    def _open(self, index: int) -> None:
        connection = self.streams[index].connect(self._chance.choice(self._addresses))
        if connection is None:
            self._come_back(index)
        else:
            self._selector.register(connection, selectors.EVENT_READ, index)

    def _come_back(self, index: int) -> None:
        heapq.heappush(self._due, (time.monotonic() + self.streams[index].delay(self._chance), index))

    def wait(self, condition: Callable[[EventSource], bool], seconds: float) -> list[EventSource]:
        """Wait until the condition has held for every stream; return those for which it has not in ``seconds``."""
        left = list(self.streams)

        def is_done() -> bool:
            # From the end, and never again for those that are done: the list is long and this runs at every turn.
            while left and condition(left[-1]):
                left.pop()
            return not left or self._error is not None

        with self._moved:
            self._moved.wait_for(is_done, seconds)
        return [stream for stream in left if not condition(stream)]

    def wait_until_open(self, seconds: float = 20.0) -> None:
        """Wait until every stream is open and knows the id that it begins after."""
        closed = self.wait(lambda stream: stream.is_open and stream.after is not None, seconds)
        assert not closed, f"{len(closed)} of {len(self.streams)} streams did not open: {describe(closed)}"

    def reasons(self, since: float = 0.0) -> Counter[str]:
        """Why connections have ended since that time (monotonic seconds), and how many."""
        return Counter(end.reason for stream in self.streams for end in stream.disconnects if end.at >= since)


def topic_of(event: Event) -> str:
    """The topic of a publisher's event (see `publishers`), or of a gap."""
    if event.event == GAP:
        topic: str = json.loads(event.data or "")["topic"]
        return topic
    return (event.data or "").partition(" ")[0]


def describe(streams: Sequence[EventSource], most: int = 3) -> str:
    """Where the first few of these streams stand, for the message of a failure."""
    return "; ".join(
        f"{stream.name} {stream.topics}: {f'open at {stream.server}' if stream.is_open else 'not open'}, "
        f"cursor {stream.cursor or None}, {len(stream.received)} events, ends {stream.disconnects[-3:]}, "
        f"refused {stream.refused}"
        for stream in streams[:most]
    )


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        assert hard == resource.RLIM_INFINITY or hard >= count, f"{count} open files are needed, {hard} allowed"
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
