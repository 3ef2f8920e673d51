"""Requests and responses at the edge of what can be handed over: each gets the right answer, and no thread is lost."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from sse_core import EventParser
from sse_core.testing import StreamReader
from tests.integration.servers import Server, back_to_rest, connection_to, exchange, gunicorn, read_all, until


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """EventWorker with two threads, in front of an application that makes mistakes."""
    with gunicorn(threads=2, errors=True) as server:
        yield server


def test_http_1_0_is_handed_over(server: Server) -> None:
    """A client that speaks HTTP/1.0 gets a claimed stream: it is delimited by close anyway."""
    with back_to_rest(server), server.send(b"GET /events?topic=a HTTP/1.0\r\n\r\n") as connection:
        # More than there are threads.
        others = [server.send(b"GET /events?topic=a HTTP/1.0\r\n\r\n") for _ in range(3)]
        until(lambda: server.stats()["streams"] == 4, "all streams are open")
        event_id = server.publish("a", "x")
        block = f"id: {event_id}\ndata: x\n\n".encode()
        received = b""
        while block not in received:
            received += connection.recv(65536)
        head = received.partition(b"\r\n\r\n")[0].lower()
        assert b"connection: close" in head
        assert b"chunked" not in head
        for other in others:
            other.close()


def test_a_compressed_stream_is_served_by_iteration(server: Server) -> None:
    """Behind a middleware that compresses, the stream is not claimed, and what arrives can be decoded at once."""
    with back_to_rest(server), contextlib.closing(connection_to(server.address)) as connection:
        connection.request("GET", "/gzipped?topic=a")
        response = connection.getresponse()
        assert response.getheader("Content-Encoding") == "gzip"
        until(lambda: server.stats()["streams"] == 1, "the stream is open")
        assert server.stats()["nr_conns"] == 1
        ids = [server.publish("a", str(number)) for number in range(3)]
        decoder = zlib.decompressobj(wbits=31)
        parser = EventParser()
        events = []
        while len(events) < 3:
            events += parser.feed(decoder.decompress(response.read1()))
        response.close()
        assert [event.id for event in events] == ids


def test_a_view_that_shows_no_environ_may_be_asked_by_head(server: Server) -> None:
    """Under EventWorker HEAD ends after the head also when the view did not show the request to the hub."""
    with back_to_rest(server), contextlib.closing(connection_to(server.address)) as connection:
        assert exchange(connection, "HEAD", "/without-environ?topic=a")[::2] == (200, b"")
        assert exchange(connection, "GET", "/plain")[2] == b"plain\n"


def test_a_status_other_than_200_is_served_by_iteration(server: Server) -> None:
    """A stream with another status is not claimed but does arrive, chunked."""
    with back_to_rest(server), server.stream(path="/created") as reader:
        assert (reader.status, reader.headers["transfer-encoding"]) == (201, "chunked")
        until(lambda: server.stats()["streams"] == 1, "the stream is open")
        event_id = server.publish("a", "x")
        assert reader.read()[0].id == event_id


@pytest.mark.parametrize("path", ["/with-length", "/no-content", "/collected"])
def test_a_response_that_ends_cannot_carry_a_stream(server: Server, path: str) -> None:
    """A stream with a Content-Length, without a body, or collected to know its length is an error: 500, no thread lost."""
    with back_to_rest(server):
        # More often than there are threads.
        for _ in range(3):
            assert server.request("GET", f"{path}?topic=a")[0] == 500
        assert server.request("GET", "/plain")[0] == 200
    assert "ConfigurationError" in server.log()


def test_a_body_collected_after_the_start_is_handed_over(server: Server) -> None:
    """A middleware that joins the chunks of a response already started gets the opening bytes, and the stream goes on."""
    with back_to_rest(server), server.stream(path="/collected-late") as reader:
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        assert server.stats()["nr_conns"] == 0
        event_id = server.publish("a", "x")
        assert reader.read()[0].id == event_id


def test_an_application_that_fails_after_subscribing_answers_500(server: Server) -> None:
    """Subscribing registers nothing, so an error after it leaves nothing behind."""
    with back_to_rest(server):
        adopted = server.stats()["streams_adopted"]
        assert server.request("GET", "/broken?topic=a")[0] == 500
        assert server.stats()["streams_adopted"] == adopted


def test_an_error_page_in_place_of_a_stream_is_the_whole_answer(server: Server) -> None:
    """A stream that was looked at and then replaced by an error page does not get the connection."""
    with back_to_rest(server):
        adopted = server.stats()["streams_adopted"]
        status, _, body = server.request("GET", "/replaced?topic=a")
        assert (status, body) == (500, b"an error page\n")
        assert server.stats()["streams_adopted"] == adopted


def test_a_body_in_place_of_a_stream_is_the_whole_answer(server: Server) -> None:
    """A stream that was closed before it came to its end does not get the connection, and the answer ends."""
    with back_to_rest(server):
        adopted = server.stats()["streams_adopted"]
        assert server.request("GET", "/dropped?topic=a")[::2] == (200, b"retry: 1\n\n")
        assert server.stats()["streams_adopted"] == adopted


@pytest.mark.parametrize("path", ["/events", "/gzipped", "/created"])
def test_a_view_that_names_no_topic_or_a_wrong_one_opens_nothing(server: Server, path: str) -> None:
    """A refused topic is an exception in the view, before anything is opened."""
    with back_to_rest(server):
        assert server.request("GET", f"{path}?topic=%00")[0] == 500


def test_a_full_hub_answers_softly() -> None:
    """Beyond max_streams a client gets 200, one jittered retry and the end, so that a browser comes back by itself."""
    with gunicorn(threads=2, hub={"max_streams": 2, "drain_retry": [100, 100_000]}) as server, back_to_rest(server):
        with server.stream(), server.stream():
            until(lambda: server.stats()["streams"] == 2, "both streams are adopted")
            times = set()
            for _ in range(4):
                with server.stream() as refused:
                    assert refused.status == 200
                    assert refused.headers["content-type"] == "text/event-stream"
                    assert refused.read_to_end() == []
                    assert refused.raw == f"retry: {refused.retry}\n\n".encode()
                    assert refused.retry is not None
                    assert 100 <= refused.retry <= 100_000
                    times.add(refused.retry)
            assert len(times) > 1
            assert server.stats()["streams_refused"] == 4
        until(lambda: server.stats()["streams"] == 0, "there is room again")
        with server.stream() as reader:
            event_id = server.publish("a", "x")
            assert reader.read()[0].id == event_id


def test_a_bound_of_streams_is_exact_for_clients_that_come_at_once() -> None:
    """Of 60 clients that ask in the same moment as many get a stream as there is room for, and all others a retry."""
    with gunicorn(threads=8, hub={"max_streams": 5}) as server, back_to_rest(server):
        before = server.stats()
        requests = [server.connect() for _ in range(60)]
        for each in requests:
            each.sendall(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: server.stats()["streams_refused"] == before["streams_refused"] + 55, "55 were sent away")
        until(lambda: server.stats()["streams_adopted"] == before["streams_adopted"] + 5, "5 were handed over")
        assert server.stats()["streams"] == 5
        for each in requests:
            each.close()


@pytest.mark.parametrize("app", ["wsgi", "falcon_app"])
def test_a_hub_in_memory_refuses_several_workers(app: str) -> None:
    """With two workers each would have its own events: subscribing and publishing fail, and the log says what to do."""
    with gunicorn(app=app, workers=2, errors=True) as server:
        assert server.request("GET", "/events?topic=a")[0] == 500
        assert server.request("POST", "/publish?topic=a&data=x")[0] == 500
        assert server.request("GET", "/plain")[0] == 200
        assert "MultiprocessError" in server.log()
        assert "backplane that joins processes" in server.log()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody else trusts."""
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """gunicorn's settings for TLS."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    return {"keyfile": str(tmp_path / "key"), "certfile": str(tmp_path / "cert")}


def test_tls_at_gunicorn_is_served_by_a_thread_until_the_drain(
    authority: trustme.CA, certificate: dict[str, str]
) -> None:
    """Under TLS a stream keeps a thread, events arrive, and TERM ends it with a retry and a whole last chunk."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with gunicorn(threads=2, tcp=True, **certificate) as server:
        worker = server.worker
        with server.connect() as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: server.stats()["streams"] == 1, "the stream is open")
            assert server.stats()["nr_conns"] == 1
            event_id = server.publish_aside("a", "secret")
            block = f"id: {event_id}\ndata: secret\n\n".encode()
            received = b""
            while block not in received:
                received += connection.recv(65536)
            assert b"Transfer-Encoding: chunked" in received
            server.signal(signal.SIGTERM)
            rest = read_all(connection)
            assert b"retry: " in rest
            assert rest.endswith(b"\r\n0\r\n\r\n")
        assert server.wait() == 0
        state = server.wait_for("exit", pid=worker)["state"]
        assert (state["streams"], state["nr_conns"]) == (0, 0)


def test_a_reader_over_a_kept_connection_is_told_what_it_needs(server: Server) -> None:
    """After ordinary requests on a connection a stream on the same connection is handed over like any other."""
    with back_to_rest(server), contextlib.closing(connection_to(server.address)) as connection:
        for _ in range(3):
            assert exchange(connection, "GET", "/plain")[0] == 200
        connection.request("GET", "/events?topic=a")
        response = connection.getresponse()
        assert response.getheader("Connection") == "close"
        until(lambda: server.stats()["streams"] == 1, "the stream is open")
        event_id = json.loads(server.request("POST", "/publish?topic=a&data=x")[2])["id"]
        received = b""
        while f"id: {event_id}\ndata: x\n\n".encode() not in received:
            received += response.read1()
        # http.client gave it the socket.
        response.close()


def test_the_query_resumes_where_no_header_is_sent(server: Server) -> None:
    """A client without the header may name its last id in the query; the header, where sent, beats it."""
    first, second = server.publish("q", "1"), server.publish("q", "2")
    target = f"/events?topic=q&last_event_id={first}"
    with StreamReader(server.address, target) as reader:
        assert [event.id for event in reader.read()] == [second]
    with StreamReader(server.address, target, last_event_id=second) as reader:
        third = server.publish("q", "3")
        assert [event.id for event in reader.read()] == [third]
