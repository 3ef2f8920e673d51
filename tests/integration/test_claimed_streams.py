"""The claimed path: five frameworks under EventWorker with a pool of one thread."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from sse_core.testing import Ledger
from tests.integration.servers import Server, back_to_rest, connection_to, exchange, gunicorn, until

APPS = ["wsgi", "falcon_app", "flask_app", "django_app", "bottle_app"]


@pytest.fixture(scope="module", params=APPS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One worker with one thread."""
    with gunicorn(app=request.param, threads=1) as server:
        yield server


def test_the_head_is_delimited_by_close(server: Server) -> None:
    """A claimed response has the stream's header fields and ends with the connection, whatever the framework."""
    with server.stream() as reader:
        assert reader.status == 200
        assert reader.headers["connection"] == "close"
        assert "transfer-encoding" not in reader.headers
        assert "content-length" not in reader.headers
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-cache, no-store"
        assert reader.headers["x-accel-buffering"] == "no"


def test_streams_take_no_thread(server: Server) -> None:
    """With a pool of one thread many streams are open, and publishing is answered and delivered to all of them."""
    ledger = Ledger()
    with back_to_rest(server), contextlib.ExitStack() as stack:
        readers = {str(number): stack.enter_context(server.stream("a b")) for number in range(8)}
        start = server.publish("b", "start")
        for reader in readers.values():
            assert [event.data for event in reader.read()] == ["start"]
        for name in readers:
            ledger.subscribed(name, ["a", "b"], after=start)
        for number in range(20):
            topic = "ab"[number % 2]
            ledger.published(topic, server.publish(topic, str(number)), str(number))
        assert server.stats()["streams"] == 8
        for name, reader in readers.items():
            for event in reader.read(20):
                ledger.received(name, event)
        assert ledger.faults() == []


def test_a_client_resumes_by_its_header(server: Server) -> None:
    """A client that sends Last-Event-ID gets all after that id, once, and then what comes."""
    with server.stream() as reader:
        server.publish("a", "seen")
        seen = reader.read()[0]
    missed = [server.publish("a", data) for data in ("one", "two")]
    with server.stream(last_event_id=seen.id) as reader:
        assert [(event.id, event.data) for event in reader.read(2)] == [(missed[0], "one"), (missed[1], "two")]
        live = server.publish("a", "three")
        assert reader.read()[0].id == live


def test_a_client_that_leaves_is_forgotten(server: Server) -> None:
    """When clients leave, their streams are counted no more and their descriptors are closed."""
    with back_to_rest(server):
        ended = server.stats()["streams_ended_client"]
        readers = [server.stream() for _ in range(5)]
        until(lambda: server.stats()["streams"] == 5, "all streams are adopted")
        for reader in readers:
            reader.close()
        until(lambda: server.stats()["streams_ended_client"] == ended + 5, "the ends are counted")


def test_half_a_connection_is_none(server: Server) -> None:
    """A client that ends its sending side has left: its stream ends, as nginx takes it."""
    with back_to_rest(server), server.stream() as reader:
        reader.socket.shutdown(socket.SHUT_WR)
        assert reader.read_to_end() == []


def test_head_ends_after_the_head(server: Server) -> None:
    """HEAD is answered with the head alone, no stream is counted, and the connection serves the next request."""
    with back_to_rest(server), contextlib.closing(connection_to(server.address)) as connection:
        adopted = server.stats()["streams_adopted"]
        status, headers, body = exchange(connection, "HEAD", "/events?topic=a")
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")
        assert exchange(connection, "GET", "/plain")[2] == b"plain\n"
        assert server.stats()["streams_adopted"] == adopted


def test_other_answers_keep_their_connection(server: Server) -> None:
    """EventWorker leaves answers that are no stream alone: the connection is kept for the next request."""
    with back_to_rest(server), contextlib.closing(connection_to(server.address)) as connection:
        for _ in range(3):
            assert exchange(connection, "GET", "/plain")[::2] == (200, b"plain\n")
            assert exchange(connection, "POST", "/publish?topic=a&data=x")[0] == 200
        with server.stream() as reader:
            assert exchange(connection, "POST", "/publish?topic=a&data=last")[0] == 200
            assert reader.read()[0].data == "last"
