"""A client of the service on the standard library alone: publish with retries, listen as a browser does.

Addresses are ``http://host:port``, ``https://host`` or ``unix:/path/of/socket``; a path after the host is a prefix.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from sse_core import Event, EventParser

EVENT_STREAM = "text/event-stream"
DEFAULT_RETRY = 3.0  # Seconds to wait before a reconnect, as browsers do, until the server says otherwise.
MAX_BACKOFF = 30.0  # Seconds; the wait doubles with each failure up to this.
CONNECT_TIMEOUT = 10.0  # Seconds to connect and get an answer's head.
READ_TIMEOUT = 60.0  # Seconds of silence that mean a dead connection; the server is silent for at most about 15.
READ_BYTES = 65_536
MAX_ERROR_BYTES = 65_536  # Of an error's document; more says nothing more.

MAX_EVENT_BYTES = 1 << 24  # Of one event; what the server allows is a setting of its own, and far below by default.

# Answers that may be another one later: a rate limit, and whatever is between us and a service that restarts.
PASSING = (429, 502, 503, 504)

# What a connection that fails, breaks or talks nonsense raises: worth another try.
CONNECTION_ERRORS = (OSError, http.client.HTTPException)


class RefusedError(Exception):
    """The server answered with a final status. ``problem`` is its problem document, or empty."""

    def __init__(self, status: int, reason: str, problem: dict[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or reason
        super().__init__(f"the server answered {status}: {detail}")
        self.status = status
        self.problem = problem


class UnavailableError(Exception):
    """The server could not be reached, or was too busy, until the time was up. Whether anything was published is unknown."""


class AddressError(ValueError):
    """The text is no address of a server."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Server:
    """The address of a server: makes connections to it."""

    def __init__(self, address: str) -> None:
        """Take ``address`` apart. Raises `AddressError`."""
        self._address = address
        self.prefix = ""
        if address.startswith("unix:"):
            if not address.removeprefix("unix:"):
                raise AddressError("the path of the socket is missing: unix:PATH")
            return
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise AddressError(f"{address!r} is none of http://HOST[:PORT], https://HOST[:PORT], unix:PATH")
        try:
            self._port = parts.port
        except ValueError as error:
            raise AddressError(f"{address!r}: {error}") from None
        self._host = parts.hostname
        self._class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.prefix = parts.path.rstrip("/")

    def __str__(self) -> str:
        """The address, as it was given."""
        return self._address

    def path(self, name: str, namespace: str | None) -> str:
        """Return the path of ``/events`` or ``/publish`` in a namespace; None for the default one."""
        return f"{self.prefix}/{name}" if namespace is None else f"{self.prefix}/n/{quote(namespace, safe='')}/{name}"

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that opens with its first request."""
        if self._address.startswith("unix:"):
            return UnixConnection(self._address.removeprefix("unix:"), CONNECT_TIMEOUT)
        return self._class(self._host, self._port, timeout=CONNECT_TIMEOUT)


class Publisher:
    """Posts to ``/publish``, or to another ``route``, over one connection that is kept. Not thread-safe."""

    def __init__(
        self,
        server: Server,
        *,
        route: str = "publish",
        namespace: str | None = None,
        token: str | None = None,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Repeat what fails for ``patience`` seconds. ``token`` says who publishes, where the server wants to know."""
        self._path = server.path(route, namespace)
        self._headers = {"Accept": "*/*"} | bearer(token)
        self._patience = patience
        self._sleep = sleep
        self._connection = server.connection()

    def post(self, body: bytes, content_type: str) -> bytes:
        """Post ``body`` and return the receipts' bytes. Each event needs an ``id``, so that a repetition adds nothing.

        Raises `RefusedError` for a final answer and `UnavailableError` when the patience is over.
        """
        give_up = time.monotonic() + self._patience
        failures = 0
        while True:
            wait = min(MAX_BACKOFF, 0.1 * 2**failures)
            try:
                status, reason, headers, answer = self._exchange(body, content_type)
            except CONNECTION_ERRORS as error:
                self._connection.close()
                failure = str(error) or type(error).__name__
            else:
                if status == 200:
                    return answer
                if status not in PASSING:
                    raise RefusedError(status, reason, problem(answer))
                failure = str(RefusedError(status, reason, problem(answer)))
                wait = max(wait, retry_after(headers))
            failures += 1
            # Spread, so that publishers that failed together do not come back together.
            wait *= random.uniform(1.0, 1.25)
            if time.monotonic() + wait > give_up:
                raise UnavailableError(f"gave up after {failures} attempts: {failure}")
            self._sleep(wait)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, body: bytes, content_type: str) -> tuple[int, str, http.client.HTTPMessage, bytes]:
        self._connection.request("POST", self._path, body, {"Content-Type": content_type} | self._headers)
        response = self._connection.getresponse()
        return response.status, response.reason, response.headers, response.read()


class Listener:
    """Listens to topics and resumes after every cut, by the rules of `EventSource` (HTML standard, section 9.2.3)."""

    def __init__(
        self,
        server: Server,
        topics: Sequence[str],
        *,
        namespace: str | None = None,
        token: str | None = None,
        last_event_id: str = "",
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[str, float], None] = lambda reason, seconds: None,
    ) -> None:
        """Start after ``last_event_id``; ``on_retry`` is told why and for how long is waited. ``token`` says who listens."""
        self._server = server
        self._path = f"{server.path('events', namespace)}?{urlencode([('topic', topic) for topic in topics])}"
        self._headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"} | bearer(token)
        self._last_event_id = last_event_id
        self._retry = DEFAULT_RETRY
        self._sleep = sleep
        self._on_retry = on_retry

    def events(self) -> Iterator[Event]:
        """Yield events as they come, without end but for a 204. Raises `RefusedError` for any other final answer."""
        failures = 0
        while True:
            connection = self._server.connection()
            try:
                response = self._open(connection)
                if response is None:
                    return
                failures = 0
                yield from self._read(response)
                reason = "the server closed the stream"
            except CONNECTION_ERRORS as error:
                failures += 1
                reason = str(error) or type(error).__name__
            finally:
                connection.close()
            wait = min(MAX_BACKOFF, self._retry * 2 ** max(0, failures - 1))
            self._on_retry(reason, wait)
            self._sleep(wait)

    def _open(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse | None:
        last = {"Last-Event-ID": self._last_event_id} if self._last_event_id else {}
        connection.request("GET", self._path, headers=self._headers | last)
        sock = connection.sock
        response = connection.getresponse()
        if response.status == 204:
            return None
        content_type = response.headers.get_content_type()
        if response.status != 200 or content_type != EVENT_STREAM:
            answer = response.read(MAX_ERROR_BYTES)
            reason = response.reason if response.status != 200 else f"{content_type} instead of a stream"
            raise RefusedError(response.status, reason, problem(answer))
        # The connection lets go of its socket when the answer ends with it, but the answer reads from the same one.
        if sock is not None:
            sock.settimeout(READ_TIMEOUT)
        return response

    def _read(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        parser = EventParser(max_event_bytes=MAX_EVENT_BYTES)
        while chunk := response.read1(READ_BYTES):
            events = parser.feed(chunk)
            if parser.retry is not None:
                self._retry = parser.retry / 1000
            for event in events:
                # Before the event is handed out: a caller may stop there, and go on later with this very object.
                self._last_event_id = event.id or self._last_event_id
                yield event
            # A block with an id and no data moves the cursor too: the server's keepalives are such blocks.
            self._last_event_id = parser.last_event_id or self._last_event_id


def bearer(token: str | None) -> dict[str, str]:
    """Return the header that carries a token (RFC 6750), or no header for None."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def problem(body: bytes) -> dict[str, Any]:
    """Return the problem document in an answer's body, or an empty one."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def retry_after(headers: http.client.HTTPMessage) -> float:
    """Return the seconds in Retry-After; 0 for none, or for a date, which our server never sends."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0
