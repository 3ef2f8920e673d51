"""The connection to a provider's server: bounded in time and size, and cut by whoever wants the answer to end.

A thread that is blocked in a read is not woken when another one closes the socket, on Linux: only a shutdown of it does.
So each answer has a client, and a connection, of its own, and a second descriptor for its socket, which stays valid
whatever the library does to the first one: the TLS handshake for one detaches it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

import httpx2
import structlog

from sse_core import StoppedError

from . import failures
from .failures import Failure

# A provider that asks for more patience than this is not waited for: the user is told at once, and how long it is.
LONGEST_WAIT = 10.0
FIRST_WAIT = 0.5

_log = structlog.get_logger("sse_kit.llm")
_Stream = TypeVar("_Stream")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one answer may take. Seconds and bytes; ``retries`` are those before anything has come of the answer."""

    connect_timeout: float
    timeout: float
    max_seconds: float
    max_answer_bytes: int
    retries: int


class Upstream:
    """One answer's way to its provider. Not reusable; `abort` is for any thread, the rest for the one that reads.

    ``secret`` is what must not appear in our log, even if the provider repeats it.
    """

    def __init__(self, provider: str, bounds: Bounds, *, secret: str | None) -> None:
        self._provider = provider
        self._bounds = bounds
        self._secret = secret
        self._lock = threading.Lock()
        self._aborted = threading.Event()
        self._sockets: list[socket.socket] = []
        self._client: httpx2.Client | None = None
        self._deadline = 0.0

    def __enter__(self) -> httpx2.Client:
        """Return the client to give to the vendor's library. Connects nothing."""
        bounds = self._bounds
        self._deadline = time.monotonic() + bounds.max_seconds
        self._client = httpx2.Client(
            verify=trusted_certificates(),
            timeout=httpx2.Timeout(bounds.timeout, connect=bounds.connect_timeout),
            # Of use to nobody after this answer.
            limits=httpx2.Limits(max_keepalive_connections=0),
            event_hooks={"request": [self._watch], "response": [self._bound]},
        )
        return self._client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
        self._drop()

    def abort(self) -> None:
        """Cut the connection, and have none made from now on. May be repeated."""
        with self._lock:
            self._aborted.set()
            self._cut()

    def open(self, request: Callable[[], _Stream], failure_of: Callable[[Exception], Failure | None]) -> _Stream:
        """Call ``request`` until it returns the stream of an answer: again after failures that may pass.

        ``failure_of`` tells what the library's errors mean, None for those that are no failures of the provider.
        Raises `FailedError` for what lasts, and `StoppedError` once aborted.
        """
        for attempt in itertools.count():
            if self._aborted.is_set():
                raise StoppedError("the answer was stopped")
            try:
                return request()
            except Exception as error:
                failure = failure_of(error)
                wait = _wait(failure, attempt, self._bounds.retries)
                if wait is None:
                    self.give_up(error, failure)
                # Our descriptor keeps the connection of the last attempt open, whatever the library does with its own.
                self._drop()
                # Not the library's own waiting: nothing could end that.
                self._aborted.wait(wait)
        raise AssertionError("unreachable")

    def give_up(self, error: Exception, failure: Failure | None) -> NoReturn:
        """Raise what the run ends with because of ``error``: `FailedError`, logged; `StoppedError` if we did it ourselves.

        ``error`` itself is raised if it is no failure of the provider.
        """
        if self._aborted.is_set():
            raise StoppedError("the answer was stopped") from error
        if isinstance(error, _ExceededError):
            failure = error.failure
        if failure is None:
            raise error
        _log.warning(
            "provider failed",
            provider=self._provider,
            reason=failure.reason,
            status=failure.status,
            error=self._redacted(error),
        )
        raise failure.error() from error

    def _redacted(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        if error.__cause__ is not None:
            # The libraries say no more than that there was a connection error; here is which.
            text += f" ({type(error.__cause__).__name__}: {error.__cause__})"
        return text.replace(self._secret, "[secret]") if self._secret else text

    def _watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._trace

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """See a connection as soon as there is one: before the handshake, and before anything is sent on it."""
        if name.endswith((".connect_tcp.complete", ".connect_unix_socket.complete")):
            connected: socket.socket = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.append(connected.dup())
                if self._aborted.is_set():
                    self._cut()

    def _drop(self) -> None:
        with self._lock:
            self._cut()
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def _cut(self) -> None:
        for each in self._sockets:
            # It is no error if the other end was faster.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _bound(self, response: httpx2.Response) -> None:
        response.stream = _Bounded(
            cast(httpx2.SyncByteStream, response.stream), self._deadline, self._bounds.max_answer_bytes
        )


class _ExceededError(Exception):
    """A bound of ours is reached. No error of the library's, which would wrap it or try again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Bounded(httpx2.SyncByteStream):
    """A response's bytes up to a moment and a number: the libraries would read a line without an end for ever."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, room: int) -> None:
        self._stream = stream
        self._deadline = deadline
        self._room = room

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._room -= len(chunk)
            if self._room < 0:
                raise _ExceededError(failures.TOO_LARGE)
            # Also what comes is no life sign for ever: a provider that sends pings and no answer.
            if time.monotonic() > self._deadline:
                raise _ExceededError(failures.TOO_LONG)
            yield chunk

    def close(self) -> None:
        """Close what it reads."""
        self._stream.close()


def of_transport(error: BaseException | None) -> Failure:
    """Return the failure that an error of the HTTP library is."""
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return failures.UNREACHABLE
        case httpx2.TimeoutException():
            return failures.TIMEOUT
    # The request may have been read and worked on: it is not sent again.
    return failures.DROPPED


def _wait(failure: Failure | None, attempt: int, retries: int) -> float | None:
    """Return the seconds until the next attempt, None if there is none."""
    if failure is None or not failure.repeatable or attempt >= retries:
        return None
    if failure.retry_after is not None:
        return failure.retry_after if failure.retry_after <= LONGEST_WAIT else None
    # Spread, or all who were refused together come back together.
    return float(FIRST_WAIT * 2**attempt * random.uniform(0.75, 1.25))


@functools.cache
def trusted_certificates() -> ssl.SSLContext:
    """What a provider's certificate is checked by: the library's own, or SSL_CERT_FILE.

    Read once, which takes as long as many an answer's first token.
    """
    return httpx2.create_ssl_context()
