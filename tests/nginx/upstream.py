"""A fake gunicorn on a unix socket whose every byte and moment a test decides."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True)
class Request:
    """One request as it arrived, and the number of the connection it came on, from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


Answer = Callable[[Request, socket.socket], bool]


def reply(body: bytes = b"ok\n", *, status: str = "200 OK", content_type: str = "text/plain") -> Answer:
    """Return an answer with ``body`` that keeps the connection open."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def answer(_: Request, connection: socket.socket) -> bool:
        connection.sendall(head + body)
        return True

    return answer


class Upstream:
    """Calls ``answer(request, connection)`` for each request; False from it closes the connection."""

    def __init__(self, path: Path, answer: Answer | None = None) -> None:
        self.address = f"unix:{path}"
        self.answer = answer or reply()
        self.requests: list[Request] = []
        self.connections = 0
        self._path = path
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(512)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # shutdown wakes the threads that wait in accept and recv; close alone would not.
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            for request in _requests(connection, number):
                self.requests.append(request)
                if not self.answer(request, connection):
                    break


class OpenStream:
    """An answer that is a stream, written by the test piece by piece."""

    def __init__(self, upstream: Upstream, head: bytes = STREAM_HEAD) -> None:
        self._head = head
        self._connections: list[socket.socket] = []
        self._opened = threading.Event()
        self.left = threading.Event()
        upstream.answer = self._answer

    def _answer(self, _: Request, connection: socket.socket) -> bool:
        connection.sendall(self._head)
        self._connections.append(connection)
        self._opened.set()
        if connection.recv(1) == b"":
            self.left.set()
        return False

    def write(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        assert self._opened.wait(20)
        self._connections[0].sendall(data)

    def end(self) -> None:
        """Close the service's side."""
        assert self._opened.wait(20)
        self._connections[0].shutdown(socket.SHUT_RDWR)


def _requests(connection: socket.socket, number: int) -> Iterator[Request]:
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return
            received += more
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(received) < length:
            received += connection.recv(65536)
        method, target, _ = first.split(" ")
        yield Request(method, target, headers, received[:length], number)
        received = received[length:]
