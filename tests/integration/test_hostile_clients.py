"""Clients that do what they should not, at EventWorker: each harms itself only."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from sse_core.ids import parse_id
from sse_core.testing import Ledger
from tests.integration.servers import Server, back_to_rest, gunicorn, until

REQUEST = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = "x" * 100_000


@pytest.fixture(scope="module", params=["unix", "tcp"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """EventWorker with a pool of one thread."""
    with gunicorn(threads=1, tcp=request.param == "tcp") as server:
        yield server


def receive_until(connection: socket.socket, wanted: bytes) -> bytes:
    """Receive until something has come."""
    received = b""
    while wanted not in received:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return received


def reset(connection: socket.socket) -> None:
    """Close so that the other end sees a reset (TCP), or at least what it sent unread (unix)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_what_a_client_sends_after_its_request_is_ignored(server: Server) -> None:
    """Garbage after the request, at once or later, is discarded, and the stream goes on."""
    with back_to_rest(server), server.send(REQUEST + b"\x00garbage\r\n" * 100) as connection:
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        for number in range(5):
            connection.sendall(b"\xff" * 50_000)
            event_id = server.publish("a", str(number))
            receive_until(connection, f"id: {event_id}\ndata: {number}\n\n".encode())


def test_a_pipelined_second_request_is_not_answered(server: Server) -> None:
    """The first response announced the close, so a second request in the same packet gets no answer within the stream."""
    second = b"POST /publish?topic=a&data=pipelined HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with back_to_rest(server), server.send(REQUEST + second) as connection:
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        published = server.stats()["events_published"]
        event_id = server.publish("a", "other")
        received = receive_until(connection, f"id: {event_id}\ndata: other\n\n".encode())
        assert received.count(b"HTTP/1.1") == 1
        assert b"pipelined" not in received
        assert server.stats()["events_published"] == published + 1


def test_a_request_with_a_body_is_handed_over_too(server: Server) -> None:
    """A body that the view does not read never shows up as anything: the stream goes on after it."""
    body = b"x" * 300_000
    request = REQUEST.replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: %d\r\n" % len(body))
    with back_to_rest(server), server.send(request) as connection:
        connection.sendall(body)
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        event_id = server.publish("a", "x")
        receive_until(connection, f"id: {event_id}\ndata: x\n\n".encode())


@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_clients_that_leave_before_the_hand_over_leave_nothing(server: Server, end: object) -> None:
    """Clients that send a request and are gone at once, in any phase of it, cost no thread, descriptor or count."""
    assert callable(end)
    with back_to_rest(server):
        ended = threading.Barrier(4)

        def come_and_go() -> None:
            ended.wait()
            for number in range(60):
                # Sometimes within the request, sometimes after it, sometimes after the first byte of the answer.
                connection = server.send(REQUEST if number % 3 else REQUEST[:-2])
                if number % 3 == 2:
                    connection.recv(1)
                end(connection)

        clients = [threading.Thread(target=come_and_go) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(30)
        # The pool has one thread: it is free.
        assert server.request("GET", "/plain")[0] == 200


def test_streams_opened_while_events_are_published_miss_none(server: Server) -> None:
    """Whatever comes between a stream's opening bytes and its adoption is delivered: nothing is lost in the hand-over."""
    ledger = Ledger()
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            ledger.published("a", server.publish_aside("a", "x"))

    with back_to_rest(server), contextlib.ExitStack() as stack:
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            readers = [stack.enter_context(server.stream()) for _ in range(40)]
        finally:
            stop.set()
            publisher.join()
        last = server.publish("a", "last")
        ledger.published("a", last)
        for number, reader in enumerate(readers):
            reader.read_until_id(last)
            opening = reader.raw.partition(b"\n\n")[0].decode()
            ledger.subscribed(str(number), ["a"], after=opening.partition("id: ")[2])
        for number, reader in enumerate(readers):
            reader.socket.shutdown(socket.SHUT_WR)
            for event in reader.read_to_end():
                ledger.received(str(number), event)
        assert ledger.faults() == []
        assert parse_id(last) is not None


def test_a_client_that_reads_nothing_is_cut_off_by_the_lag_bound() -> None:
    """A client that does not read is closed once it lags too far (policy disconnect); the others get everything."""
    with (
        gunicorn(threads=1, hub={"keepalive": 15}) as server,
        back_to_rest(server),
        server.send(REQUEST) as lazy,
        server.stream() as reader,
    ):
        until(lambda: server.stats()["streams"] == 2, "both are adopted")
        ids = []
        while server.stats()["streams_ended_lagging"] == 0:
            ids.append(server.publish_aside("a", BIG))
            assert reader.read()[0].id == ids[-1]
            assert len(ids) < 100
        assert server.stats()["streams"] == 1
        # What the lazy one has in its socket is the beginning of the stream, in order and uncut but for the end.
        lazy.settimeout(5)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := lazy.recv(1 << 20):
                received += chunk
        assert received.count(b"\nid: ") + received.count(b"\n\nid: ") >= 1
        assert received.index(f"id: {ids[0]}\n".encode()) < received.index(f"id: {ids[1]}\n".encode())
        assert server.request("GET", "/plain")[0] == 200


def test_a_client_that_reads_nothing_is_cut_off_by_the_send_timeout() -> None:
    """A client that stays blocked for send_timeout is closed, also when it lags little; the others are unaffected."""
    with (
        gunicorn(threads=1, hub={"send_timeout": 0.5}) as server,
        back_to_rest(server),
        server.send(REQUEST),
        server.stream() as reader,
    ):
        until(lambda: server.stats()["streams"] == 2, "both are adopted")
        for _ in range(8):
            event_id = server.publish_aside("a", BIG)
            assert reader.read()[0].id == event_id
        until(lambda: server.stats()["streams_ended_timeout"] == 1, "the lazy one is closed")
        assert server.stats()["streams_ended_lagging"] == 0
        event_id = server.publish("a", "x")
        assert reader.read()[0].id == event_id


def test_a_client_that_reads_slowly_gets_everything() -> None:
    """A client that falls behind, but not beyond the bound, gets every event once and in order when it reads again."""
    ledger = Ledger()
    with gunicorn(threads=1) as server, back_to_rest(server), server.stream() as reader:
        ledger.subscribed("slow", ["a"], after="0-0")
        until(lambda: server.stats()["streams"] == 1, "it is adopted")
        for _ in range(9):
            ledger.published("a", server.publish_aside("a", BIG), BIG)
        until(lambda: server.stats()["blocked"] >= 1, "its socket is full")
        for event in reader.read(9):
            ledger.received("slow", event)
        assert ledger.faults() == []


def test_a_client_that_resumes_a_long_history_holds_no_thread() -> None:
    """History is sent by the engine, not by gunicorn: a client that asks for all of it and reads nothing blocks nobody."""
    with gunicorn(threads=1, hub={"send_timeout": 0.5}) as server, back_to_rest(server):
        for _ in range(9):
            server.publish_aside("a", BIG)
        request = REQUEST.replace(b"Host: x\r\n", b"Host: x\r\nLast-Event-ID: 0-0\r\n")
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(server.send(request))
            until(lambda: server.stats()["blocked"] >= 5, "all of them are blocked")
            assert server.request("GET", "/plain")[0] == 200
            until(lambda: server.stats()["streams_ended_timeout"] == 5, "all of them are closed")


def test_a_drain_ends_blocked_clients_too() -> None:
    """On TERM a client that does not read ends with the others, within graceful_timeout."""
    with gunicorn(threads=1) as server, server.send(REQUEST):
        until(lambda: server.stats()["streams"] == 1, "it is adopted")
        for _ in range(8):
            server.publish_aside("a", BIG)
        until(lambda: server.stats()["blocked"] >= 1, "its socket is full")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "SIGKILL" not in server.log()
