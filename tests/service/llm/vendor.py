"""A provider's server for tests: it speaks the vendors' wire formats, and breaks off, stalls and lies as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sse_core import FailedError, SSEError, StoppedError
from sse_kit.llm import Finish, Generation, Provider
from sse_kit.llm.anthropic import AnthropicProvider
from sse_kit.llm.openai import OpenAIProvider
from sse_kit.llm.upstream import Bounds

WAIT = 20.0
KEY = "sk-a-key-of-this-server"

#: What is done on one connection.
Answer = Callable[["Exchange"], None]


@dataclass
class Received:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Exchange:
    """One connection, after its request was read."""

    connection: socket.socket
    request: Received

    def head(self, status: str = "200 OK", content_type: str = "text/event-stream", **headers: str) -> None:
        """Send the head of an answer in chunks."""
        fields = {"Content-Type": content_type, "Transfer-Encoding": "chunked", **headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        """Send one chunk of the body."""
        self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """Send the chunk that ends the body."""
        self.connection.sendall(b"0\r\n\r\n")


@dataclass
class Vendor:
    """A server on a port of 127.0.0.1: connection by connection one of ``answers``, the last of them for all that follow."""

    answers: list[Answer]
    requests: list[Received] = field(default_factory=list)
    #: Set once a client has closed a connection that this side kept open.
    left: threading.Event = field(default_factory=threading.Event)
    #: Makes it speak TLS.
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Close everything and wait for all threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(WAIT)
            self._open.add(connection)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            thread = threading.Thread(target=self._serve, args=(connection, answer))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, answer: Answer) -> None:
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(ConnectionError):
            request = _read(connection)
            if request is not None:
                self.requests.append(request)
                answer(Exchange(connection, request))
        self._open.discard(connection)

    def stall(self, *events: bytes) -> Answer:
        """Send ``events`` and then nothing, for as long as the client stays."""

        def answer(exchange: Exchange) -> None:
            exchange.head()
            for event in events:
                exchange.chunk(event)
            self.wait_for_leave(exchange)

        return answer

    def wait_for_leave(self, exchange: Exchange) -> None:
        """Wait until the client closes the connection."""
        if exchange.connection.recv(1) == b"":
            self.left.set()


def _read(connection: socket.socket) -> Received | None:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    method, path, _ = first.split()
    return Received(method, path, headers, json.loads(body) if body else None)


@contextlib.contextmanager
def vendor(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Vendor]:
    """Run a server that gives ``answers``; without any they are set with `Vendor.answers`, before the first request."""
    server = Vendor(list(answers), tls=tls)
    try:
        yield server
    finally:
        server.close()


def chunks(*parts: bytes, headers: dict[str, str] | None = None) -> Answer:
    """An answer that sends ``parts`` as they are, each a chunk, and ends."""

    def answer(exchange: Exchange) -> None:
        exchange.head(**(headers or {}))
        for part in parts:
            exchange.chunk(part)
        exchange.end()

    return answer


def dropped(*parts: bytes) -> Answer:
    """An answer whose connection is closed before its end."""

    def answer(exchange: Exchange) -> None:
        exchange.head()
        for part in parts:
            exchange.chunk(part)

    return answer


def refused(status: str, body: object, **headers: str) -> Answer:
    """An error as JSON."""

    def answer(exchange: Exchange) -> None:
        exchange.head(status, "application/json", **headers)
        exchange.chunk(json.dumps(body).encode())
        exchange.end()

    return answer


def silent(exchange: Exchange) -> None:
    """No answer at all: the connection is closed."""


# ---- OpenAI's chat completions ----


def completion(
    delta: dict[str, Any] | None, *, finish: str | None = None, usage: tuple[int, int] | None = None
) -> bytes:
    """One event of a streamed chat completion; no delta: the last one, which has no choice, only ``usage``."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "m-1",
        "system_fingerprint": "fp_1",
        "choices": choices,
        "usage": usage
        and {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": usage[0] + usage[1]},
    }
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def openai_answer(*tokens: str, finish: str = "stop", usage: tuple[int, int] | None = (3, 2)) -> list[bytes]:
    """The events of a whole answer, as OpenAI sends it with ``stream_options.include_usage``."""
    return [
        completion({"role": "assistant", "content": "", "refusal": None}),
        *(completion({"content": token}) for token in tokens),
        completion({}, finish=finish),
        *([completion(None, usage=usage)] if usage else []),
        DONE,
    ]


# ---- Anthropic's messages ----


def message_event(kind: str, **members: Any) -> bytes:
    """One event of a streamed message."""
    data = json.dumps({"type": kind, **members}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def message_start(input_tokens: int = 5) -> list[bytes]:
    """What a message begins with."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": 1},
    }
    return [
        message_event("message_start", message=message),
        message_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        message_event("ping"),
    ]


def text_delta(text: str) -> bytes:
    """A piece of a message's text."""
    return message_event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def message_end(stop_reason: str = "end_turn", output_tokens: int = 7) -> list[bytes]:
    """What a message ends with."""
    return [
        message_event("content_block_stop", index=0),
        message_event(
            "message_delta",
            delta={"stop_reason": stop_reason, "stop_sequence": None},
            usage={"output_tokens": output_tokens},
        ),
        message_event("message_stop"),
    ]


def anthropic_answer(*tokens: str, stop_reason: str = "end_turn") -> list[bytes]:
    """The events of a whole message."""
    return [*message_start(), *map(text_delta, tokens), *message_end(stop_reason)]


def read(generation: Generation) -> tuple[list[str], Finish | SSEError]:
    """All tokens of a generation, and how it ended."""
    found: list[str] = []
    tokens = generation.tokens()
    while True:
        try:
            found.append(next(tokens))
        except StopIteration as end:
            return found, end.value
        except (FailedError, StoppedError) as error:
            return found, error


# ---- both, for what they have in common ----


@dataclass(frozen=True)
class Dialect:
    """One vendor: how to ask it, and how it answers."""

    name: str
    provider: Callable[[str, Bounds], Provider]
    #: What comes before the first token, and what after the last one.
    opening: list[bytes]
    closing: list[bytes]
    token: Callable[[str], bytes]
    #: What it sends to show that it is there.
    sign_of_life: bytes

    def begun(self, *tokens: str) -> list[bytes]:
        """An answer up to the last of ``tokens``."""
        return [*self.opening, *map(self.token, tokens)]

    def whole(self, *tokens: str) -> list[bytes]:
        """A whole answer."""
        return [*self.begun(*tokens), *self.closing]


def dialect(name: str) -> Dialect:
    """Return a vendor by the name of its provider."""
    if name == "openai":
        return Dialect(
            name,
            lambda url, bounds: OpenAIProvider(base_url=f"{url}/v1", api_key=KEY, model="m-1", bounds=bounds),
            opening=openai_answer()[:1],
            closing=openai_answer()[1:],
            token=lambda text: completion({"content": text}),
            sign_of_life=b": still there\n\n",
        )
    return Dialect(
        name,
        lambda url, bounds: AnthropicProvider(base_url=url, api_key=KEY, model="m-1", bounds=bounds),
        opening=message_start(),
        closing=message_end(),
        token=text_delta,
        sign_of_life=message_event("ping"),
    )
