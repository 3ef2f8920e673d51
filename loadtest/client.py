"""A client of one event stream as a browser's EventSource is one, on a gevent socket, with `sse_core.EventParser`.

It knows nothing of locust and of load. An event's time is when the bytes were received that completed it: nothing waits for
a buffer of some size to be full, as HTTP libraries do.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping

import gevent

from loadtest.connection import Address, Connection, Head
from sse_core import Event, EventParser

#: Where data is always there gevent never turns to anything else: after so many reads it is made to.
READS_A_TURN = 32
#: What a browser waits before it comes back, unless the server has said otherwise, in milliseconds.
DEFAULT_RETRY = 3000


class SSEClient:
    """One stream, over its reconnections: `open`, `receive` until it returns None, `close`; then `open` again.

    For one greenlet. Errors of the network are `OSError`, `TimeoutError` among them.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        silence: float | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        """``timeout`` is for connecting and for the head, ``silence`` for each wait for more, both in seconds."""
        self._address = Address.of(url)
        self._headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **(headers or {})}
        self._timeout = timeout
        self._silence = silence
        self._tls = tls
        self._receive_buffer = receive_buffer
        self._source = source
        self._connection: Connection | None = None
        self._parser = EventParser()
        self._reads = 0
        self._retry: int | None = None
        #: What a reconnect resumes after; empty if the server gives no ids.
        self.last_event_id = ""
        #: When the last bytes came, by `time.monotonic`.
        self.received_at = 0.0
        #: Bytes of all bodies.
        self.bytes = 0

    @property
    def retry(self) -> int:
        """How long to wait before coming back, in milliseconds: what the server has last told, or what browsers do."""
        told = self._parser.retry
        if told is not None:
            self._retry = told
        return DEFAULT_RETRY if self._retry is None else self._retry

    @property
    def is_open(self) -> bool:
        """Whether there is a connection on this side."""
        return self._connection is not None

    def move(self, url: str) -> None:
        """Ask for another stream from now on, from its beginning."""
        self.close()
        self._address = Address.of(url)
        self.last_event_id = ""

    def open(self) -> Head:
        """Connect, ask for the stream and return the head of the answer. A status other than 200 is no error here."""
        self.close()
        headers = dict(self._headers)
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        self._connection = Connection(
            self._address,
            timeout=self._timeout,
            tls=self._tls,
            receive_buffer=self._receive_buffer,
            source=self._source,
        )
        head = self._connection.request("GET", headers)
        self._connection.set_timeout(self._silence)
        # A new stream of bytes, whose ids go on from the old one's.
        self._parser = EventParser()
        return head

    def receive(self) -> list[Event] | None:
        """Return the events that the next bytes complete, maybe none; None at the end of the stream."""
        if self._connection is None:
            return None
        self._reads += 1
        if self._reads % READS_A_TURN == 0:
            gevent.sleep(0)
        data = self._connection.receive()
        self.received_at = time.monotonic()
        if not data:
            return None
        self.bytes += len(data)
        events = self._parser.feed(data)
        if self._parser.last_event_id:
            self.last_event_id = self._parser.last_event_id
        return events

    def close(self) -> None:
        """Close the connection, if there is one."""
        _ = self.retry
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
