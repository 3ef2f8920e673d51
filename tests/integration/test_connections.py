"""Connections at their beginning and their end: slow to arrive, or slow to leave, they hold up nobody but themselves."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.integration.servers import Server, back_to_rest, gunicorn, read_all, until
from tests.nginx_server import Nginx

REFUSED = b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module", params=["unix", "tcp"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """EventWorker with a pool of one thread."""
    with gunicorn(threads=1, tcp=request.param == "tcp") as server:
        yield server


def upload(server: Server, size: int) -> bytes:
    """Send a body that is refused unread, all of it before a byte of the answer is read; return the answer."""
    with server.send(REFUSED % size) as connection:
        # Too much for the buffers of both kernels: sending it all takes somebody who reads.
        connection.sendall(b"x" * size)
        return read_all(connection)


@pytest.mark.parametrize("size", [70_000, 300_000, 8 << 20])
def test_the_answer_to_a_body_that_is_refused_arrives(server: Server, size: int) -> None:
    """A client that sends a body to its end gets the whole answer that was given before it was read, every time."""
    with back_to_rest(server):
        answers = [upload(server, size) for _ in range(20)]
        assert {(answer[:13], answer[-10:]) for answer in answers} == {(b"HTTP/1.1 413 ", b"too large\n")}


@pytest.mark.parametrize(("size", "kept"), [(0, True), (1, False), (100_000, False)])
def test_a_connection_is_kept_only_if_its_request_was_read(server: Server, size: int, kept: bool) -> None:
    """A response tells that its connection ends where the body was not read, so that no proxy sends another request on it."""
    with back_to_rest(server), server.send(REFUSED % size) as connection:
        head = connection.recv(65536)
        assert (b"Connection: keep-alive" in head) == kept
        assert (b"Connection: close" in head) == (not kept)


def test_clients_that_do_not_leave_hold_up_nobody(server: Server) -> None:
    """While clients that were answered keep their connections open, all others are served; none counts as a connection."""
    with back_to_rest(server), contextlib.ExitStack() as stack:
        lingering = [stack.enter_context(server.send(REFUSED % 1_000_000 + b"x" * 100_000)) for _ in range(10)]
        for connection in lingering:
            # Nobody of them closes, and nobody is waited for: each is answered, and so is who comes in between.
            assert read_all(connection).endswith(b"too large\n")
            assert server.request("GET", "/plain")[0] == 200
        until(lambda: server.stats()["nr_conns"] == 0, "none of them counts")


def test_a_client_that_never_leaves_is_cut_off(server: Server) -> None:
    """A client that was answered and goes on holding its connection is closed by the server, and counted."""
    with back_to_rest(server):
        cut = server.stats()["connections_cut"]
        server.ask("hurry", parting=0.5)
        with server.send(REFUSED % 1_000_000 + b"x" * 100_000) as connection:
            assert read_all(connection).endswith(b"too large\n")
            until(lambda: server.stats()["connections_cut"] > cut, "it is cut off")
        server.ask("hurry", parting=5)


def test_who_was_just_answered_does_not_hold_up_the_stop() -> None:
    """A worker that is told to stop ends, though clients that were answered do not close their connections."""
    with gunicorn(threads=1) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(server.send(REFUSED % 1_000_000 + b"x" * 100_000))
            assert read_all(connection).endswith(b"too large\n")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "SIGKILL" not in server.log()


def test_nginx_passes_on_the_answer_to_a_body_that_is_refused() -> None:
    """Through nginx a refused body is 413 and never 502, however many are refused and however large they are."""
    statuses: list[bytes] = []

    def send(port: int, size: int, times: int) -> None:
        for _ in range(times):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(
                    b"POST /publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % size
                )
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"x" * size)
                answer = read_all(connection)
            statuses.append(answer[9:12])

    with (
        gunicorn(threads=4, app="refusing") as server,
        Nginx(f"unix:{server.address}") as nginx,
    ):
        clients = [
            threading.Thread(target=send, args=(nginx.port, size, 25)) for size in (70_000, 300_000, 1_900_000) * 2
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(120)
        errors = nginx.errors.read_text()
    assert statuses == [b"413"] * 150, errors
    assert "prematurely" not in errors
    assert "reset by peer" not in errors


def test_a_view_that_exits_ends_its_request_alone() -> None:
    """A view that calls sys.exit is answered with 500, and its worker goes on with everybody's streams."""
    with gunicorn(threads=2, errors=True) as server, server.stream() as reader:
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        worker = server.worker
        for _ in range(3):
            assert server.request("GET", "/exiting")[0] == 500
        assert server.worker == worker
        event_id = server.publish_aside("a", "x")
        assert reader.read()[0].id == event_id
        assert "the application raised SystemExit" in server.log()


def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    """Clients that send their head a byte at a time are cut off, however many threads they hold, and all others served."""
    with gunicorn(threads=2) as server, back_to_rest(server), contextlib.ExitStack() as stack:
        server.ask("hurry", seconds=0.5)
        slow = [stack.enter_context(server.send(b"GET /plain HTTP/1.1\r\nHost: x")) for _ in range(6)]
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.1):
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.send(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            until(lambda: server.stats()["heads_late"] >= 6, "all are cut off")
            server.ask("hurry", seconds=30)
            assert server.request("GET", "/plain")[0] == 200
        finally:
            ended.set()
            dripping.join()


def test_a_client_that_sends_nothing_does_not_hold_a_connection() -> None:
    """A connection on which nothing ever comes is closed after the time for a head, not kept like one that was used."""
    with gunicorn(threads=1, keep_alive=300) as server, back_to_rest(server):
        server.ask("hurry", seconds=0.5)
        with server.connect() as silent:
            silent.settimeout(60)
            assert silent.recv(1) == b""


def test_a_handshake_that_stops_in_the_middle_locks_nobody_out(tmp_path: Path) -> None:
    """With TLS at gunicorn, clients that begin a handshake and never end it are cut off, and all others are served."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    # As the client's first message begins: a record of 512 bytes, of which three come.
    beginning = b"\x16\x03\x01\x02\x00\x01\x00\x01"
    options = {"certfile": str(tmp_path / "cert"), "keyfile": str(tmp_path / "key")}
    with (
        gunicorn(threads=2, tcp=True, do_handshake_on_connect=True, **options) as server,
        contextlib.ExitStack() as stack,
    ):
        server.ask("hurry", seconds=0.5)
        for _ in range(6):
            stack.enter_context(server.send(beginning))
        until(lambda: server.stats()["heads_late"] >= 6, "all are cut off")
        until(lambda: server.stats()["nr_conns"] == 0, "none of them counts")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        server.ask("hurry", seconds=30)
        plain = stack.enter_context(server.connect())
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
