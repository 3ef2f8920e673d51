"""Requests that follow on a connection: read and answered in less time, and to an application the same as the first."""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.servers import Server, back_to_rest, gunicorn, read_all, until, wait_for_end

PLAIN = "BytesIO"
GUNICORNS = "Body"
FIRST = b"GET /shown HTTP/1.1\r\nHost: example:81\r\nX-Forwarded-Proto: https\r\n\r\n"


@pytest.fixture(scope="module", params=["unix", "tcp"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """EventWorker with a pool of three threads."""
    with gunicorn(threads=3, tcp=request.param == "tcp", errors=True) as server:
        yield server


class Client:
    """One connection, on which requests follow each other."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self._rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def ask(self, data: bytes) -> tuple[bytes, dict[str, str], bytes]:
        """Send, and read an answer of known length: its first line, its head and its body."""
        self.socket.sendall(data)
        return self.read()

    def read(self) -> tuple[bytes, dict[str, str], bytes]:
        """Read an answer of known length."""
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        length = int(fields.get("content-length", "0"))
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        return status.encode(), fields, body

    def _receive(self) -> None:
        chunk = self.socket.recv(65536)
        assert chunk, f"the connection has ended after {self._rest!r}"
        self._rest += chunk

    def shown(self, data: bytes) -> dict[str, Any]:
        """What the application was told of a request."""
        status, _, body = self.ask(data)
        assert status == b"HTTP/1.1 200 OK"
        told: dict[str, Any] = json.loads(body)
        return told


@pytest.fixture
def kept(server: Server) -> Iterator[Client]:
    """A connection on which a first request was answered."""
    with Client(server) as client:
        assert client.shown(FIRST)["read from"] == GUNICORNS
        yield client


@pytest.mark.parametrize(
    "data",
    [
        FIRST,
        FIRST.replace(b"/shown", b"/shown?a=b&c=%20d"),
        FIRST.replace(b"GET", b"DELETE"),
        FIRST.replace(b"\r\n\r\n", b"\r\nCookie: a=b; c=d\r\nx-request-id:  abc \r\nConnection: keep-alive\r\n\r\n"),
        FIRST.replace(b"GET", b"POST").replace(
            b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
        ),
    ],
)
def test_a_plain_request_is_the_same_to_an_application(server: Server, kept: Client, data: bytes) -> None:
    """The environ of a request that follows is the one that it has as the first of a connection, and so is the answer."""
    with Client(server) as other:
        first = other.shown(data)
        (status, fields, _), (other_status, other_fields, _) = kept.ask(data), other.ask(data)
    following = kept.shown(data)
    assert (first.pop("read from"), following.pop("read from")) == (GUNICORNS, PLAIN)
    for told in (first, following):
        # Of TCP.
        told.pop("REMOTE_PORT", None)
        told.pop("environs")
    assert following == first
    assert status == other_status
    assert set(fields) == set(other_fields) == {"server", "date", "connection", "content-type", "content-length"}
    assert fields["connection"] == "keep-alive"
    assert fields["server"] == "gunicorn"


@pytest.mark.parametrize(
    "data",
    [
        FIRST.replace(b"example:81", b"other"),
        FIRST.replace(b"https", b"http"),
        FIRST.replace(b"X-Forwarded-Proto: https\r\n", b""),
        FIRST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Ssl: on\r\n\r\n"),
        FIRST.replace(b"/shown", b"/%73hown"),
        FIRST.replace(b"GET", b"POST").replace(
            b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        FIRST.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000),
    ],
)
def test_what_gunicorn_has_to_decide_is_gunicorns(server: Server, kept: Client, data: bytes) -> None:
    """A request with another host or scheme, or that is not plain, is gunicorn's, and the next plain one is as it says."""
    with Client(server) as other:
        first = other.shown(data)
    for told in (kept.shown(data), first):
        assert told["read from"] == GUNICORNS
    assert kept.shown(FIRST)["wsgi.url_scheme"] == "https"
    following = kept.shown(FIRST)
    assert following["read from"] == PLAIN
    assert (following["SERVER_NAME"], following["HTTP_HOST"]) == (kept.shown(FIRST)["SERVER_NAME"], "example:81")


def test_a_request_in_pieces_is_read(kept: Client) -> None:
    """A request that comes in pieces, at any place, is answered like one that comes whole."""
    data = FIRST.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello")
    for place in range(1, len(data), 7):
        kept.socket.sendall(data[:place])
        assert kept.shown(data[place:])["body"] == "hello", place
        assert kept.shown(data)["read from"] == PLAIN


def test_requests_at_once_are_answered_in_order(kept: Client) -> None:
    """Requests that are sent before the answers have come are all answered, in their order."""
    many = [FIRST.replace(b"/shown", b"/shown?%d" % number) for number in range(50)]
    kept.socket.sendall(b"".join(many))
    assert [json.loads(kept.read()[2])["QUERY_STRING"] for _ in many] == [str(number) for number in range(50)]


def test_a_stream_may_follow(server: Server) -> None:
    """A stream as the second request of a connection is handed over like the first."""
    with back_to_rest(server), Client(server) as client:
        client.shown(FIRST)
        client.socket.sendall(FIRST.replace(b"/shown", b"/events?topic=a"))
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        event_id = server.publish_aside("a", "hello")
        received = b""
        while b"data: hello" not in received:
            received += client.socket.recv(65536)
        assert b"\r\nConnection: close" in received
        assert f"id: {event_id}".encode() in received


@pytest.mark.parametrize(
    "path", [b"/in-parts", b"/unknown-length", b"/file", b"/hinted", b"/plain", b"/refused", b"/nowhere"]
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_an_answer_is_the_same_on_the_wire(server: Server, kept: Client, path: bytes, method: bytes) -> None:
    """Whatever an application answers with, the bytes are those for a first request, but for the order of fields."""
    data = FIRST.replace(b"GET", method).replace(b"/shown", path).replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
    end = FIRST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with server.send(data + end) as other:
        first = read_all(other)
    kept.socket.sendall(data)
    # Not with the other: two at once are not plain.
    following = kept.socket.recv(65536)
    kept.socket.sendall(end)
    following += read_all(kept.socket)

    def comparable(answers: bytes) -> list[list[bytes]]:
        # Up to the second answer, which is about another connection.
        own = answers[: answers.rindex(b"HTTP/1.1 200 OK")]
        return [
            sorted(line for line in part.split(b"\r\n") if not line.startswith(b"Date: "))
            for part in own.split(b"\r\n\r\n")
        ]

    assert comparable(following) == comparable(first)


@pytest.mark.parametrize(
    ("path", "word"), [(b"/broken?topic=a", "broken on purpose"), (b"/exiting", "the application raised SystemExit")]
)
def test_a_view_that_fails_is_answered(server: Server, path: bytes, word: str) -> None:
    """A view that fails before it has answered is 500, told in the log, and the end of its connection alone."""
    with back_to_rest(server), Client(server) as client:
        client.shown(FIRST)
        client.socket.sendall(FIRST.replace(b"/shown", path))
        assert read_all(client.socket).startswith(b"HTTP/1.1 500 ")
        assert word in server.log()
        assert server.request("GET", "/plain")[0] == 200


def test_an_answer_that_breaks_off_is_not_continued(server: Server, kept: Client) -> None:
    """Behind half an answer nothing is sent: the connection ends."""
    kept.socket.sendall(FIRST.replace(b"/shown", b"/breaks-off"))
    head, _, body = read_all(kept.socket).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"half "
    assert server.request("GET", "/plain")[0] == 200


def test_a_client_that_leaves_is_no_error(server: Server) -> None:
    """Clients that leave while a thread waits for their next request leave nothing behind."""
    with back_to_rest(server):
        for _ in range(50):
            with Client(server) as client:
                client.shown(FIRST)
                client.shown(FIRST)


def test_a_silent_connection_holds_no_thread(server: Server) -> None:
    """More connections than threads that were answered and say nothing hold up nobody, and each is answered when it speaks."""
    with back_to_rest(server):
        clients = [Client(server) for _ in range(20)]
        try:
            for _ in range(3):
                for client in clients:
                    client.shown(FIRST)
            assert server.request("GET", "/plain")[0] == 200
        finally:
            for client in clients:
                client.socket.close()


def test_many_publishers_at_once_are_served() -> None:
    """Publishers on more connections than there are threads, each with one request after the other, are all answered."""
    answered: list[int] = []

    def publish(server: Server) -> None:
        with Client(server) as client:
            for number in range(100):
                data = FIRST.replace(b"GET", b"POST").replace(
                    b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n%03d" % number
                )
                assert client.shown(data)["body"] == f"{number:03}"
        answered.append(1)

    with gunicorn(threads=3) as server:
        publishers = [threading.Thread(target=publish, args=(server,)) for _ in range(12)]
        for publisher in publishers:
            publisher.start()
        for publisher in publishers:
            publisher.join(60)
    assert len(answered) == 12


def test_a_busy_client_is_not_the_only_one() -> None:
    """One that sends a request as soon as it is answered keeps no thread from those who wait for one."""
    with gunicorn(threads=2) as server, Client(server) as busy, Client(server) as other, server.connect() as gated:
        # One of two threads is held by a view.
        gated.sendall(FIRST.replace(b"/shown", b"/gated?topic=a"))
        server.wait_for("at the gate")
        other.socket.sendall(FIRST)
        for _ in range(100_000):
            busy.shown(FIRST)
            if select.select([other.socket], [], [], 0)[0]:
                break
        else:
            raise AssertionError("it was never answered")
        assert other.read()[0] == b"HTTP/1.1 200 OK"
        server.ask("open gate")


def test_the_thread_that_waits_is_called_back() -> None:
    """Where each other thread is held by a view, the one that waits for a client's next request serves whoever comes."""
    with gunicorn(threads=2) as server, Client(server) as waited_for, server.connect() as gated:
        gated.sendall(FIRST.replace(b"/shown", b"/gated?topic=a"))
        server.wait_for("at the gate")
        server.ask("hurry", next=60_000)
        with server.connect() as other:
            waited_for.shown(FIRST)
            waited_for.shown(FIRST)
            other.sendall(FIRST)
            assert other.recv(1) == b"H"
        server.ask("open gate")


def test_the_protocol_is_that_of_the_request(server: Server) -> None:
    """After a request of HTTP/1.0 one of HTTP/1.1 is told as what it is."""
    with Client(server) as client:
        first = FIRST.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        assert json.loads(client.ask(first)[2])["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert client.shown(FIRST)["SERVER_PROTOCOL"] == "HTTP/1.1"


@pytest.mark.parametrize(
    ("settings", "data", "status"),
    [
        ({"limit_request_fields": 2}, FIRST.replace(b"\r\n\r\n", b"\r\nA: a\r\n\r\n"), 431),
        ({"limit_request_line": 16_000}, FIRST.replace(b"/shown", b"/shown?" + b"a" * 9_000), 414),
        ({"limit_request_line": 50}, FIRST.replace(b"/shown", b"/shown?" + b"a" * 60), 414),
    ],
)
def test_limits_are_those_of_the_first(settings: dict[str, int], data: bytes, status: int) -> None:
    """What is too long as the first request of a connection is too long as one that follows."""
    with gunicorn(threads=2, errors=True, **settings) as server:
        with server.send(data) as first:
            assert read_all(first).startswith(b"HTTP/1.1 %d " % status)
        with Client(server) as client:
            client.shown(FIRST)
            client.shown(FIRST)
            client.socket.sendall(data)
            assert read_all(client.socket).startswith(b"HTTP/1.1 %d " % status)


def test_the_proxy_protocol_is_gunicorns() -> None:
    """Where a connection begins with the address of a client (PROXY protocol), each request is read by gunicorn."""
    with gunicorn(threads=2, tcp=True, proxy_protocol="v1", proxy_allow_from="*") as server, Client(server) as client:
        client.socket.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\n")
        assert [client.shown(FIRST)["read from"] for _ in range(3)] == [GUNICORNS] * 3


def test_a_request_that_is_over_is_forgotten(kept: Client) -> None:
    """An environ ends with its request, and does not wait for the collector of garbage."""
    assert max(kept.shown(FIRST)["environs"] for _ in range(50)) <= 2


def test_a_worker_without_its_arbiter_ends() -> None:
    """When the master is killed, a client that sends one request after the other is told to leave, and the worker ends."""
    with gunicorn(threads=2, graceful_timeout=3) as server, Client(server) as client:
        worker = server.worker
        client.shown(FIRST)
        server.signal(signal.SIGKILL)
        while client.ask(FIRST)[1]["connection"] == "keep-alive":
            pass
        client.socket.close()
        wait_for_end(worker)


def test_a_worker_that_has_had_its_requests_makes_room() -> None:
    """Requests that follow count for max_requests: the last one's answer ends its connection, and another worker comes."""
    with gunicorn(threads=2, max_requests=5) as server:
        worker = server.worker
        with Client(server) as client:
            kept = [client.ask(FIRST)[1]["connection"] for _ in range(5)]
            assert kept == ["keep-alive"] * 4 + ["close"]
            assert client.socket.recv(1) == b""
        assert server.wait_for("exit", pid=worker)["pid"] == worker
        server.wait_for("ready")
        assert server.request("GET", "/plain")[0] == 200


def test_a_worker_that_stops_says_so() -> None:
    """While a worker stops, a request on a kept connection is answered, and told that it was the last."""
    with gunicorn(threads=2) as server:
        with Client(server) as client, server.send(FIRST.replace(b"/shown", b"/gated?topic=a")):
            client.shown(FIRST)
            client.shown(FIRST)
            server.wait_for("at the gate")
            server.signal(signal.SIGTERM)
            until(lambda: not _accepts(server), "it takes no more connections")
            status, fields, _ = client.ask(FIRST)
            assert (status, fields["connection"]) == (b"HTTP/1.1 200 OK", "close")
            server.ask("open gate")
        assert server.wait() == 0


def _accepts(server: Server) -> bool:
    try:
        with server.connect() as connection:
            connection.settimeout(0.1)
            connection.sendall(FIRST)
            return bool(connection.recv(1))
    except (TimeoutError, ConnectionError, FileNotFoundError):
        return False


@pytest.mark.parametrize("settings", [{"access_logfile": "-"}, {"threads": 1}])
def test_whoever_asks_gunicorn_for_more_gets_it(settings: dict[str, Any]) -> None:
    """With an access log, or one thread, each request is gunicorn's: nothing that it writes of a request is left out."""
    with gunicorn(**{"threads": 2, **settings}) as server, Client(server) as client:
        assert [client.shown(FIRST)["read from"] for _ in range(3)] == [GUNICORNS] * 3
        if "access_logfile" in settings:
            until(lambda: server.log().count('"GET /shown HTTP/1.1" 200') == 3, "three lines")


def test_a_reset_is_no_error(server: Server) -> None:
    """A client that resets its connection while its request is answered is not told in the log."""
    before = server.log().count("Socket error")
    for _ in range(20):
        with Client(server) as client:
            client.shown(FIRST)
            if client.socket.family == socket.AF_INET:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.socket.sendall(FIRST)
    assert server.request("GET", "/plain")[0] == 200
    assert server.log().count("Socket error") == before
