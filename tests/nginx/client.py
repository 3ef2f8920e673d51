"""A plain HTTP client over a socket, which shows each byte when it comes."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self

TIMEOUT = 20.0
#: An address of this machine that site/trusted.conf does not list.
STRANGER = "127.0.0.2"


class Response:
    """The head of an answer, and its body as it arrives."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        _, code, *_ = self._file.readline().decode().split(" ")
        self.status = int(code)
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value

    def chunk(self) -> bytes:
        """Wait for the next chunk of a chunked body; empty at its end."""
        size = int(self._file.readline(), 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def body(self) -> bytes:
        """Read to the end of the body."""
        if "content-length" in self.headers:
            return self._file.read(int(self.headers["content-length"]))
        return b"".join(iter(self.chunk, b""))

    def problem(self) -> dict[str, Any]:
        """Read a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body())
        return document


class Client:
    """One connection to 127.0.0.1:``port``, from the address ``source``."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT, source_address=(source, 0))

    def send(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Send one request; Host and Content-Length are added."""
        lines = {"Host": "example.test:8080", **(headers or {})}
        if body:
            lines["Content-Length"] = str(len(body))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(head.encode("latin-1") + b"\r\n" + body)

    def response(self) -> Response:
        """Wait for the head of the next answer."""
        return Response(self.socket)

    def get(self, target: str, headers: dict[str, str] | None = None) -> Response:
        """Send a GET request and wait for the head of its answer."""
        self.send("GET", target, headers)
        return self.response()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()
