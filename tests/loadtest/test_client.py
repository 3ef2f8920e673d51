"""The client of one stream: bodies of every kind, TLS, resuming, and times that no buffer makes later."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme

from loadtest.client import SSEClient
from loadtest.connection import Address, Connection, ProtocolError, tls_context

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
WAIT = 60.0


class Peer:
    """A server that is one script for each connection, in a thread of its own; it keeps the heads of the requests."""

    def __init__(self, *scripts: Callable[[Peer, socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT)
        self._scripts = scripts
        self._tls = tls
        self.heads: list[str] = []
        #: Set by the test, waited for by scripts.
        self.go = threading.Event()
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self._listener.getsockname()[1]}/events?topic=a"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for script in self._scripts:
            accepted, _ = self._listener.accept()
            accepted.settimeout(WAIT)
            wrapped = accepted if self._tls is None else self._tls.wrap_socket(accepted, server_side=True)
            with wrapped:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += wrapped.recv(65536)
                self.heads.append(head.decode())
                script(self, wrapped)

    def close(self) -> None:
        self.go.set()
        self._thread.join()
        self._listener.close()


@contextmanager
def peer(*scripts: Callable[[Peer, socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    running = Peer(*scripts, tls=tls)
    try:
        yield running
    finally:
        running.close()


def says(*parts: bytes) -> Callable[[Peer, socket.socket], None]:
    """A script that sends these parts one by one, and then waits for the test, or closes if the last one is empty."""

    def script(server: Peer, connection: socket.socket) -> None:
        for part in parts:
            if part:
                connection.sendall(part)
        if parts[-1]:
            server.go.wait(WAIT)

    return script


def read(client: SSEClient, count: int) -> list[str | None]:
    """The data of the next events."""
    found: list[str | None] = []
    while len(found) < count:
        events = client.receive()
        assert events is not None, found
        found += [event.data for event in events]
    return found


def chunk(body: bytes) -> bytes:
    return f"{len(body):X};name=value\r\n".encode() + body + b"\r\n"


class TestBodies:
    @pytest.mark.parametrize(
        "parts",
        [
            (HEAD + b"\r\n", b"data: one\n\n", b"data: two\n\ndata: three\n\n", b""),
            (
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
                *map(chunk, (b"data: one\n\ndata: t", b"wo\n\n", b"data: three\n\n")),
                b"0\r\n\r\n",
            ),
            (HEAD + b"Content-Length: 36\r\n\r\ndata: one\n\n", b"data: two\n\ndata: three\n\n!"),
            # Cut in the middle of everything.
            tuple(bytes([byte]) for byte in HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            + tuple(
                bytes([byte])
                for byte in chunk(b"data: one\n\n") + chunk(b"data: two\n\ndata: three\n\n") + b"0\r\n\r\n"
            ),
        ],
        ids=["until it closes", "chunked", "with a length", "byte by byte"],
    )
    def test_a_body_is_read_to_its_end(self, parts: tuple[bytes, ...]) -> None:
        """Whatever says where the body ends, and however it is cut, the events are the same."""
        with peer(says(*parts)) as server:
            client = SSEClient(server.url, timeout=WAIT)
            head = client.open()
            found = read(client, 3)
            while (rest := client.receive()) is not None:
                assert rest == []
            client.close()

        assert (head.status, found) == (200, ["one", "two", "three"])

    def test_an_event_is_there_as_soon_as_its_bytes_are(self) -> None:
        """Nothing waits for a buffer to be full: one small event is returned while the server says nothing more."""
        with peer(says(HEAD + b"\r\n", b"data: small\n\n")) as server:
            client = SSEClient(server.url, timeout=WAIT, silence=WAIT)
            client.open()

            assert read(client, 1) == ["small"]
            client.close()

    @pytest.mark.parametrize(
        "body",
        [
            b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"data: one\n\n")[:-6],
            b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            b"Content-Length: 100\r\n\r\ndata: one\n\n",
        ],
    )
    def test_a_body_that_is_cut_is_an_error(self, body: bytes) -> None:
        """A connection that ends before the body does is told apart from a stream that has ended."""
        with peer(says(HEAD + body, b"")) as server:
            client = SSEClient(server.url, timeout=WAIT)
            client.open()
            with pytest.raises(ProtocolError):
                list(iter(client.receive, None))
            client.close()

    @pytest.mark.parametrize(
        "head", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 twohundred\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
    )
    def test_what_is_no_answer_is_an_error(self, head: bytes) -> None:
        """Another protocol, or a head without an end, is an error of the network and no crash."""
        with peer(says(head, b"")) as server, pytest.raises(ProtocolError):
            SSEClient(server.url, timeout=WAIT).open()


class TestReconnecting:
    def test_it_comes_back_with_its_last_id_and_the_server_s_time(self) -> None:
        """As a browser does: Last-Event-ID is the last one, blocks with only an id included; `retry` is what was told."""
        first = says(HEAD + b"\r\nretry: 1234\n\nid: 7\ndata: one\n\nid: 8\n\n", b"")
        with peer(first, says(HEAD + b"\r\ndata: two\n\n")) as server:
            client = SSEClient(server.url, timeout=WAIT)
            client.open()
            while client.receive() is not None:
                pass
            client.open()

            assert read(client, 1) == ["two"]
            assert client.retry == 1234
            client.close()

        assert "Last-Event-ID" not in server.heads[0]
        assert "\r\nLast-Event-ID: 8\r\n" in server.heads[1]
        assert server.heads[0].startswith("GET /events?topic=a HTTP/1.1\r\nHost: localhost:")

    def test_silence_is_an_error(self) -> None:
        """A stream on which nothing comes for longer than it may is given up."""
        with peer(says(HEAD + b"\r\n")) as server:
            client = SSEClient(server.url, timeout=WAIT, silence=0.05)
            client.open()
            with pytest.raises(TimeoutError):
                client.receive()
            client.close()


class TestTls:
    def test_it_speaks_tls(self) -> None:
        """A stream over https is read as any other, from a server whose authority is known."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        with (
            peer(says(HEAD + b"\r\ndata: secret\n\n"), tls=context) as server,
            authority.cert_pem.tempfile() as ca_file,
        ):
            client = SSEClient(server.url, timeout=WAIT, tls=tls_context(ca_file=ca_file))
            client.open()

            assert read(client, 1) == ["secret"]
            client.close()


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("http://a/b?c=d", Address("a", 80, False, "/b?c=d", "a")),
            ("https://a:8443", Address("a", 8443, True, "/", "a:8443")),
            ("http://[::1]:80/", Address("::1", 80, False, "/", "[::1]:80")),
        ],
    )
    def test_a_url_is_taken_apart(self, url: str, address: Address) -> None:
        """Host, port by default of the scheme, and what to ask for."""
        assert Address.of(url) == address

    @pytest.mark.parametrize("url", ["/events", "ftp://a/", "http://"])
    def test_what_is_no_url_of_a_server_is_told(self, url: str) -> None:
        """A forgotten --host is an error that says so."""
        with pytest.raises(ValueError, match="is no URL of a server"):
            Address.of(url)


def test_a_connection_is_kept_for_the_next_request() -> None:
    """Publishing does not connect anew each time, unless the server says that it will close."""

    def twice(server: Peer, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert connection.recv(65536).endswith(b"second")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with peer(twice) as server:
        connection = Connection(Address.of(server.url), timeout=WAIT)
        connection.request("POST", {}, b"first")
        first = (connection.read_all(), connection.can_go_on)
        connection.request("POST", {}, b"second")
        second = (connection.read_all(), connection.can_go_on)
        connection.close()

    assert (first, second) == ((b"ok", True), (b"ok", False))
