"""The portable path: servers that offer nothing, each with the thread (or greenlet) that serves a stream and no other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.integration.servers import Server, connection_to, exchange, gunicorn, library_server, until

Start = Callable[[], contextlib.AbstractContextManager[Server]]

#: Servers that serve one request at a time.
ONE_BY_ONE: dict[str, Start] = {
    "wsgiref": lambda: library_server("wsgiref"),
    "sync": lambda: gunicorn("sync"),
}
#: Servers with three threads.
THREADED: dict[str, Start] = {
    "waitress": lambda: library_server("waitress", threads=3),
    "gthread": lambda: gunicorn("gthread", threads=3),
}
GREEN: dict[str, Start] = {
    "gevent": lambda: gunicorn("gevent"),
    "gevent-preload": lambda: gunicorn("gevent", preload=True),
}


def started(servers: dict[str, Start]) -> Callable[[pytest.FixtureRequest], Iterator[Server]]:
    @pytest.fixture(scope="module", params=list(servers))
    def start(request: pytest.FixtureRequest) -> Iterator[Server]:
        with servers[request.param]() as server:
            yield server

    return start


any_server = started({**ONE_BY_ONE, **THREADED, **GREEN})
threaded_server = started(THREADED)
green_server = started(GREEN)


def test_events_arrive(any_server: Server) -> None:
    """A stream's head, its opening and its events arrive while it is open, under every server."""
    with any_server.stream() as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        until(lambda: any_server.stats()["streams"] == 1, "the engine serves the stream")
        ids = [any_server.publish_aside("a", str(number)) for number in range(3)]
        assert [(event.id, event.data) for event in reader.read(3)] == list(zip(ids, "012", strict=True))
        assert reader.retry == 2000


def test_a_client_resumes(any_server: Server) -> None:
    """A client that names its last id gets what it missed, once, under every server."""
    seen = any_server.publish_aside("a", "seen")
    missed = any_server.publish_aside("a", "missed")
    with any_server.stream(last_event_id=seen) as reader:
        assert [(event.id, event.data) for event in reader.read()] == [(missed, "missed")]
        live = any_server.publish_aside("a", "live")
        assert [event.id for event in reader.read()] == [live]


def test_a_client_that_leaves_is_noticed_by_the_next_keepalive(any_server: Server) -> None:
    """When the client has left, the stream ends, its descriptors are closed, and the server answers others."""
    until(lambda: any_server.stats()["streams"] == 0, "no stream is left of others")
    with any_server.stream() as reader:
        any_server.publish_aside("a", "x")
        reader.read()
    until(lambda: any_server.stats()["streams"] == 0, "the stream is gone")
    before = any_server.stats()["descriptors"]
    with any_server.stream() as reader:
        any_server.publish_aside("a", "x")
        reader.read()
    until(lambda: any_server.stats()["streams"] == 0, "the stream is gone")
    until(lambda: any_server.stats()["descriptors"] <= before, "its descriptors are gone")
    assert any_server.request("GET", "/plain")[::2] == (200, b"plain\n")


def test_head_ends_after_the_head(any_server: Server) -> None:
    """A HEAD request for a stream is answered at once without a body, and no stream is opened."""
    adopted = any_server.stats()["streams_adopted"]
    with contextlib.closing(connection_to(any_server.address)) as connection:
        status, headers, body = exchange(connection, "HEAD", "/events?topic=a")
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")
        assert exchange(connection, "GET", "/plain")[2] == b"plain\n"
    assert any_server.stats()["streams_adopted"] == adopted


def test_a_client_of_http_1_0_gets_a_stream(any_server: Server) -> None:
    """A client that speaks HTTP/1.0 gets the events bare, without the chunked coding that it does not know."""
    with any_server.send(b"GET /events?topic=a HTTP/1.0\r\nHost: x\r\n\r\n") as connection:
        until(lambda: any_server.stats()["streams"] == 1, "the stream is open")
        event_id = any_server.publish_aside("a", "bare")
        block = f"id: {event_id}\ndata: bare\n\n".encode()
        received = b""
        while block not in received:
            received += connection.recv(65536)
        assert b"chunked" not in received.partition(b"\r\n\r\n")[0].lower()
    until(lambda: any_server.stats()["streams"] == 0, "the stream is gone")


def test_a_stream_takes_its_own_thread_and_no_other(threaded_server: Server) -> None:
    """Of three threads two serve streams, and the third goes on answering requests."""
    with threaded_server.stream() as one, threaded_server.stream() as two:
        for number in range(10):
            event_id = threaded_server.publish("a", str(number))
            assert one.read()[0].id == two.read()[0].id == event_id
    until(lambda: threaded_server.stats()["streams"] == 0, "both streams are gone")


def test_greenlets_go_on(green_server: Server) -> None:
    """Under gevent one process serves many streams while it answers requests: nothing blocks the others."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(green_server.stream()) for _ in range(20)]
        until(lambda: green_server.stats()["streams"] == 20, "all streams are open")
        for number in range(10):
            event_id = green_server.publish("a", str(number))
            assert {reader.read()[0].id for reader in readers} == {event_id}
    until(lambda: green_server.stats()["streams"] == 0, "all streams are gone")
