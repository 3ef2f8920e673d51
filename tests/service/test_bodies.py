"""Bodies that do not come as they should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import falcon
import pytest
from falcon.testing import create_environ

from sse_core.arriving import Arrivals
from sse_kit.bodies import ENVIRON, read_body
from sse_kit.problems import Problem
from tests.servers import Server, running_service


class Cutter:
    """A server's clock, which goes on by a minute at each look, and the thread that looks."""

    def __init__(self) -> None:
        self._now = 0.0
        self._over = threading.Event()
        self.arrivals = Arrivals(lambda: self._now)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Arrivals:
        self._thread.start()
        return self.arrivals

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self._now += 60
            self.arrivals.cut_late()


def request(connection: socket.socket, arrivals: Arrivals, length: int) -> falcon.Request:
    environ: dict[str, Any] = create_environ("/publish", method="POST", headers={"Content-Length": str(length)})
    environ |= {"wsgi.input": connection.makefile("rb"), "gunicorn.socket": connection, ENVIRON: arrivals}
    return falcon.Request(environ)


def test_a_body_that_does_not_come_holds_no_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    """Who promises a body and sends none, or not all, is cut off after its time and told 408; the answer can still be sent."""
    ours, theirs = pair
    theirs.sendall(b"12345")
    with Cutter() as arrivals, pytest.raises(Problem) as caught:
        read_body(request(ours, arrivals, 10), 100)

    assert (caught.value.status_code, caught.value.type) == (408, "urn:sse-kit:problem:too-slow")
    ours.sendall(b"408")
    assert theirs.recv(3) == b"408"


def test_a_body_that_has_come_is_waited_for_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    """After it the connection goes on, however long its next request takes."""
    ours, theirs = pair
    arrivals = Arrivals(lambda: 0.0)
    theirs.sendall(b"1234567890next")
    req = request(ours, arrivals, 10)
    assert read_body(req, 100) == b"1234567890"
    late = Arrivals.cut_late
    late(arrivals)

    assert arrivals.late == 0
    assert not arrivals.arrived(object())


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    with running_service() as service:
        yield service


@pytest.mark.parametrize("chunks", [b"5\r\nhel", b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"])
def test_chunks_that_are_broken_are_the_clients_fault(service: Server, chunks: bytes) -> None:
    """A body whose chunks break off or are malformed is answered with 400, and the log has no error of the server."""
    head = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = len(service.log)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(service.socket_path)
        connection.sendall(head + chunks)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert not [line for line in service.log[before:] if "request failed" in line]
