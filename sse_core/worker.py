"""`EventWorker`: gunicorn's `gthread` worker, with a third fate for a connection: handed over to the engine.

# design:
# 1. `load_wsgi` wraps the application once: for each request it makes an offer to the thread that serves it.
# 2. An `EventStream` takes the offer up inside its own iteration, when nothing has been sent yet (`_Offer.claim`).
# 3. gunicorn writes the head and the opening bytes, and the response ends there, delimited by close.
# 4. `handle_request` commits the claim only if gunicorn finished that response in order.
# 5. `finish_request`, on the main thread, is gunicorn's own switch between keepalive and close; there the descriptor
#    changes hands. Before that line gunicorn owns it, after it the engine, and never both.
# 6. Streams are outside `nr_conns`. So this worker drains the hubs itself, and its heartbeat stops when a loop's does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from sse_core.claim import current_offer, make_offer
from sse_core.errors import SSEError

if TYPE_CHECKING:
    from sse_core.hub import Hub
    from sse_core.stream import EventStream

_WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: The arbiter's clock for `graceful_timeout` starts before ours; so many seconds before its end the drain is over.
_MARGIN = 2.0
_POLL = 0.02


class _Offer:
    """The offer for one request: what gunicorn knows of it, and the stream that claimed its connection, if any."""

    def __init__(self, worker: EventWorker, environ: Mapping[str, Any], response: Any) -> None:
        self.environ = environ
        self._worker = worker
        self._response = response
        self.stream: EventStream | None = None

    def use(self, hub: Hub) -> None:
        self._worker.hubs.add(hub)

    def claim(self, stream: EventStream) -> bool:
        response = self._response
        if (
            self.stream is not None
            or getattr(response, "status_code", None) != 200
            or response.headers_sent
            or response.response_length is not None
            or self.environ["REQUEST_METHOD"] == "HEAD"
            # HTTP/2 frames and TLS records are made by gunicorn: there is no plain socket to hand over.
            or self.environ.get("HTTP_VERSION") == "2"
            or response.req.version[0] != 1
            or response.cfg.is_ssl
            or getattr(response.cfg, "protocol", "http") == "uwsgi"
            or any(name.lower() in ("content-encoding", "transfer-encoding") for name, _ in response.headers)
        ):
            return False
        # The body ends with the connection: no chunk may be framed, and no request can follow.
        response.chunked = False
        response.force_close()
        self.stream = stream
        return True


class EventWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Use it as gunicorn's ``worker_class``: ``"sse_core.worker.EventWorker"``; all settings of ``gthread`` apply.

    Streams count neither for ``worker_connections`` (a hub's ``max_streams`` bounds them) nor for ``timeout``. When the
    worker stops, whatever the reason, its hubs are drained within ``graceful_timeout`` less 2 s.
    """

    wsgi: _WSGIApplication

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hubs: set[Hub] = set()
        self._draining = False

    # ---- a request ----

    def load_wsgi(self) -> None:
        """Load the application and wrap it, so that each request carries an offer."""
        super().load_wsgi()
        application = self.wsgi

        def offering(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            # start_response is a method of gunicorn's Response, which is all that a claim has to know.
            response = getattr(start_response, "__self__", None)
            if response is not None:
                make_offer(_Offer(self, environ, response))
            return application(environ, start_response)

        self.wsgi = offering

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Serve a request; note a claim on its connection if the response came to its end in order."""
        try:
            keep: bool = super().handle_request(req, conn)
            offer = current_offer()
            stream = getattr(offer, "stream", None)
            if stream is not None and stream.exhausted and not keep:
                conn.claimed_by = stream
            return keep
        finally:
            make_offer(None)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Decide what becomes of a connection; runs on the main thread."""
        stream: EventStream | None = getattr(conn, "claimed_by", None)
        if stream is None or fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
            return
        self.nr_conns -= 1
        self._hand_over(conn.sock, stream)

    def _hand_over(self, connection: socket.socket, stream: EventStream) -> None:
        try:
            connection.setblocking(False)
            # From here on the engine owns the descriptor, and `connection` is detached.
            stream.hub.adopt(stream, connection)
        except (OSError, SSEError, MemoryError, RuntimeError):
            self.log.exception("A stream could not be handed over; its client will reconnect.")
            connection.close()

    # ---- the worker ----

    def notify(self) -> None:
        """Beat, unless a loop of a hub is stuck: then the arbiter shall replace this worker."""
        if all(hub.is_healthy() for hub in self.hubs):
            super().notify()
        if not self.alive:
            self._drain()

    def run(self) -> None:
        """Serve until told to stop, then see the drain of all streams through."""
        super().run()
        self._drain()
        deadline = self._drained_by
        while any(hub.streams for hub in self.hubs) and time.monotonic() < deadline:
            super().notify()
            time.sleep(_POLL)
        for hub in self.hubs:
            hub.close()

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        most = max(self.cfg.graceful_timeout - _MARGIN, 0.0)
        self._drained_by = time.monotonic() + most
        for hub in self.hubs:
            # What lingers after the last bye is given its moment within the margin of the hub's own drain.
            hub.drain(min(hub.drain_seconds, max(most - _MARGIN, 0.0)))
