"""Clients that read nothing, or a byte at a time, among many that read as they should: over sockets, at the real gunicorn."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence

import pytest

from sse_core import EventParser
from tests.integration.servers import Server, back_to_rest, gunicorn, until

REQUEST = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"
DATA = "x" * 2000
#: What a topic keeps, and what a client may lag.
HISTORY_BYTES = 1 << 20


class Reader:
    """A client that reads what there is, and remembers which events it got."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.numbers: list[int] = []
        self._head = b""
        self._parser: EventParser | None = None

    def read(self) -> None:
        """Take what has come."""
        chunk = self.connection.recv(1 << 16)
        assert chunk, f"closed after {len(self.numbers)} events"
        if self._parser is None:
            self._head += chunk
            head, found, chunk = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200 ")
            self._parser = EventParser()
        for event in self._parser.feed(chunk):
            self.numbers.append(int((event.data or "").partition(" ")[0]))


def read_all(readers: Sequence[Reader], events: int) -> None:
    """Read on all connections until each has so many events."""
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.connection, selectors.EVENT_READ, reader)
        deadline = time.monotonic() + 120
        missing = sum(len(reader.numbers) < events for reader in readers)
        while missing:
            assert time.monotonic() < deadline, f"{missing} readers have not got everything"
            for key, _ in selector.select(1):
                reader = key.data
                before = len(reader.numbers)
                reader.read()
                missing -= before < events <= len(reader.numbers)


def check(server: Server, clients: int, lazy: int, events: int) -> None:
    """Let ``lazy`` of the clients read nothing, publish, and see what it costs and whom it concerns."""
    with back_to_rest(server), contextlib.ExitStack() as stack:
        idle = []
        for _ in range(lazy):
            connection = stack.enter_context(server.connect())
            connection.sendall(REQUEST)
            idle.append(connection)
        readers = [Reader(stack.enter_context(server.send(REQUEST))) for _ in range(clients - lazy)]
        until(lambda: server.stats()["streams"] == clients, "all are adopted")
        base = server.stats()
        for number in range(events):
            server.publish_aside("a", f"{number} {DATA}")
            if number % 50 == 49:
                # Who reads is never so far behind that it could be taken for one that does not.
                read_all(readers, number + 1)
        read_all(readers, events)
        assert all(reader.numbers == list(range(events)) for reader in readers)

        until(
            lambda: server.stats()["streams_ended_lagging"] == base["streams_ended_lagging"] + lazy,
            "the lazy ones are gone",
        )
        stats = server.stats()
        assert stats["streams"] == clients - lazy
        # One log for all, whoever reads it; of those who do not, one frame that was cut each, until they are closed.
        assert stats["history_bytes"] <= HISTORY_BYTES + len(DATA) + 200
        assert stats["carried_bytes"] <= lazy * (len(DATA) + 200)


def test_clients_that_never_read_harm_nobody() -> None:
    """Of 300 clients 15 never read: they are closed, memory is that of one log, and all others get all events in order."""
    with gunicorn(threads=4, hub={"keepalive": 15, "send_timeout": 120}) as server:
        check(server, clients=300, lazy=15, events=700)


@pytest.mark.soak
def test_clients_that_never_read_harm_nobody_among_thousands() -> None:
    """The same with 2,000 clients, of which 100 never read."""
    with gunicorn(threads=4, hub={"keepalive": 15, "send_timeout": 300}) as server:
        check(server, clients=2000, lazy=100, events=1500)


def test_clients_that_read_a_byte_at_a_time_get_everything() -> None:
    """However small the pieces are in which a client reads, it gets every event once and in order, and so do all others."""
    with gunicorn(threads=2, hub={"keepalive": 15}) as server, back_to_rest(server), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(5)]
        for connection in slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.sendall(REQUEST)
        quick = Reader(stack.enter_context(server.send(REQUEST)))
        until(lambda: server.stats()["streams"] == 6, "all are adopted")
        for number in range(40):
            server.publish_aside("a", f"{number} {'x' * 100}")
        read_all([quick], 40)
        for connection in slow:
            received = b""
            while b"39 xxx" not in received or not received.endswith(b"\n\n"):
                byte = connection.recv(1)
                assert byte
                received += byte
            parser = EventParser()
            events = list(parser.feed(received.partition(b"\r\n\r\n")[2]))
            assert [int((event.data or "").partition(" ")[0]) for event in events] == list(range(40))


def test_a_resume_from_long_ago_costs_what_the_log_holds() -> None:
    """Clients that ask for all that ever was get what is left and a gap: no more is sent than the history's bounds, and
    nothing is kept for any of them."""
    clients = 20
    options = {"keepalive": 15, "send_timeout": 120}
    with gunicorn(threads=2, hub=options) as server, back_to_rest(server), contextlib.ExitStack() as stack:
        base = server.stats()
        first = server.publish_aside("a", f"0 {DATA}")
        for number in range(1, 1500):
            server.publish_aside("a", f"{number} {DATA}")
        until(lambda: server.stats()["events_appended"] == base["events_appended"] + 1500, "the loop has all of them")
        held = server.stats()
        assert held["history_bytes"] <= HISTORY_BYTES + 100
        left = held["history_events"] - base["history_events"]
        # Before the first event that is left, however long ago.
        request = REQUEST.replace(b"Host: x", b"Host: x\r\nLast-Event-ID: " + first.encode())
        connections = [stack.enter_context(server.send(request)) for _ in range(clients)]
        for connection in connections:
            events = []
            parser, received, head = EventParser(), b"", True
            while len(events) < left + 1:
                chunk = connection.recv(1 << 20)
                assert chunk, f"closed after {len(events)} events"
                received += chunk
                if head and b"\r\n\r\n" in received:
                    received, head = received.partition(b"\r\n\r\n")[2], False
                if not head:
                    events += parser.feed(received)
                    received = b""
            assert events[0].event == "gap"
            assert '"reason":"trimmed"' in (events[0].data or "")
            assert [int((event.data or "").partition(" ")[0]) for event in events[1:]] == list(range(1500 - left, 1500))
        stats = server.stats()
        assert stats["bytes_sent"] - held["bytes_sent"] <= clients * (HISTORY_BYTES + 2000)
        assert stats["history_bytes"] == held["history_bytes"]
        assert stats["gaps_trimmed"] == held["gaps_trimmed"] + clients
