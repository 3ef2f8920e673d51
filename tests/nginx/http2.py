"""A plain HTTP/2 client over TLS, frame by frame: what arrives is seen when it comes, and forbidden headers are errors."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events

from tests.nginx.client import TIMEOUT


@dataclass
class Answer:
    """What has come of one answer."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False


class Http2:
    """One connection to https://localhost:``port``; any number of requests at a time."""

    def __init__(self, port: int, trust: ssl.SSLContext, *, source: str = "127.0.0.1") -> None:
        trust.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT, source_address=(source, 0))
        self._socket = trust.wrap_socket(plain, server_hostname="localhost")
        assert self._socket.selected_alpn_protocol() == "h2"
        # The strict reading: a header that belongs to a connection (RFC 9113, section 8.2.2) is a protocol error.
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._state.initiate_connection()
        self._answers: dict[int, Answer] = {}

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
        """Send a request and return the number of its stream."""
        number = self._state.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", target)]
        self._state.send_headers(number, [*pseudo, *(headers or {}).items()], end_stream=not body)
        if body:
            self._state.send_data(number, body, end_stream=True)
        self._answers[number] = Answer()
        self._flush()
        return number

    def head(self, number: int) -> dict[str, str]:
        """Wait for the head of an answer."""
        while not self._answers[number].headers:
            self._receive()
        return self._answers[number].headers

    def read(self, number: int, count: int) -> bytes:
        """Wait for so many bytes of a body that goes on, and take them."""
        answer = self._answers[number]
        while len(answer.body) < count:
            assert not answer.ended, answer
            self._receive()
        taken, answer.body = answer.body[:count], answer.body[count:]
        return taken

    def rest(self, number: int) -> bytes:
        """Wait for the end of a body and return what was not taken of it."""
        answer = self._answers[number]
        while not answer.ended:
            self._receive()
        return answer.body

    def is_open(self, number: int) -> bool:
        """Whether an answer is still going on, as far as has been read."""
        return not self._answers[number].ended

    def reset(self, number: int) -> None:
        """Give one answer up; the connection stays."""
        self._state.reset_stream(number)
        self._flush()

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server has ended the connection")
        for event in self._state.receive_data(data):
            answer = self._answers.get(getattr(event, "stream_id", None) or 0, Answer())
            if isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                answer.ended = True
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._state.data_to_send())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
