"""`EventWorker`: gunicorn's `gthread` worker, with a third fate for a connection: handed over to the engine.

# design:
# 1. `load_wsgi` wraps the application once: for each request it makes an offer to the thread that serves it.
# 2. An `EventStream` takes the offer up inside its own iteration, when nothing has been sent yet (`sse_core.offer`). Each
#    `start_response`, before or after that, decides anew whether the claim stands.
# 3. gunicorn writes the head and the opening bytes, and the response ends there, delimited by close.
# 4. `handle_request` commits the claim only if the stream was iterated to its end and gunicorn finished in order.
# 5. `finish_request`, on the main thread, is gunicorn's own switch between keepalive and close; there the descriptor
#    changes hands. Before that line gunicorn owns it, after it the engine, and never both.
# 6. Streams are outside `nr_conns`. So this worker drains the hubs itself, and its heartbeat stops when a loop's does.
# 7. A client cannot hold a thread by being slow: a head, and with it a handshake of TLS, comes by a time or is cut off; and
#    what an answered client still sends is read by nobody who has anything else to do (`sse_core.parting`).
# 8. A thread that has answered waits a moment for the next request of its connection, if no other thread does so; and a plain
#    one that has come whole is answered with less ado (`sse_core.kept`).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from sse_core.arriving import ENVIRON, Arrivals
from sse_core.claim import current_offer, make_offer
from sse_core.errors import LimitError
from sse_core.http import Request
from sse_core.kept import KeptParser, KeptResponse
from sse_core.offer import GunicornOffer
from sse_core.parting import Partings

if TYPE_CHECKING:
    from sse_core.hub import Hub
    from sse_core.stream import EventStream

_WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: The arbiter's clock for `graceful_timeout` starts before ours; so many seconds before its end the drain is over.
_MARGIN = 2.0
_POLL = 0.02
#: Between two beats of a busy worker: far below `timeout`, which is in whole seconds.
_BEAT_SECONDS = 0.1
#: What those who were answered last get when everything else is over.
_FAREWELL_SECONDS = 1.0


def _contained(error: BaseException) -> RuntimeError:
    """What is told of a view that means to end the program, as by sys.exit."""
    return RuntimeError(f"the application raised {type(error).__name__}, which ends its request alone")


class EventWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Use it as gunicorn's ``worker_class``: ``"sse_core.worker.EventWorker"``; all settings of ``gthread`` apply.

    Streams count neither for ``worker_connections`` (a hub's ``max_streams`` bounds them) nor for ``timeout``. When the
    worker stops, whatever the reason, its hubs are drained within ``graceful_timeout`` less 2 s.
    """

    #: Seconds in which the head of a request must have come, a handshake of TLS included.
    head_seconds = 10.0
    #: How long a thread waits for the next request of a connection if nobody else needs it: a model's tokens come so fast.
    next_milliseconds = 100

    wsgi: _WSGIApplication
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hubs: set[Hub] = set()
        #: Clients that were answered and have not left yet; made in the process that serves.
        self.partings: Partings
        self.arrivals = Arrivals()
        self._application: _WSGIApplication
        # Whether requests may pass gunicorn's parser by, and who waits for one.
        self._keeps = False
        self._waiting = threading.Lock()
        # Connections that the main thread has given to the pool and no thread has begun with, and those with a thread.
        self._queued: deque[TConn] = deque()
        self._served: set[TConn] = set()
        # An eventfd, for the thread that waits; made in the process that serves.
        self._alarm = -1
        self._draining = False
        self._drained_by = 0.0
        self._beats_at = 0.0

    def init_process(self) -> None:
        """Serve, in the process that gunicorn has forked. Returns when the worker has stopped."""
        # Else the handshake is made while the socket is wrapped: of one that stops in the middle nobody has the socket.
        self.cfg.set("do_handshake_on_connect", False)
        self.partings = Partings(most=self.worker_connections)
        self._keeps = self._may_keep()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        super().init_process()

    def _may_keep(self) -> bool:
        """Whether nobody has asked gunicorn for more than to read requests, and to answer them."""
        cfg = self.cfg
        return bool(
            cfg.keepalive
            and cfg.threads > 1
            and not cfg.is_ssl
            and cfg.protocol == "http"
            # With it gunicorn takes an address from the first request of a connection, and another from those that follow.
            and cfg.proxy_protocol == "off"
            and type(self.log).access is Logger.access
            and not self.log.access_log_enabled
            and all(cfg.settings[hook].get() is cfg.settings[hook].default for hook in ("pre_request", "post_request"))
        )

    # ---- a request ----

    def load_wsgi(self) -> None:
        """Load the application and wrap it, so that each request carries an offer."""
        super().load_wsgi()
        application = self._application = self.wsgi

        def offering(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            # start_response is a method of gunicorn's Response, which is all that a claim has to know.
            response = getattr(start_response, "__self__", None)
            if response is not None:
                offer = GunicornOffer(self, environ, response)
                if self._keeps:
                    offer.made = environ.copy()
                make_offer(offer)
                start_response = offer.start_response
                if environ.get("HTTP_VERSION") != "2":
                    # There all requests have one socket: to cut one off would be to cut all.
                    environ[ENVIRON] = self.arrivals
            return application(environ, start_response)

        self.wsgi = offering

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Serve a request; note a claim on its connection if the response came to its end in order."""
        self.arrivals.arrived(conn)
        try:
            keep: bool = super().handle_request(req, conn)
            offer: Any = current_offer()
            stream = getattr(offer, "stream", None)
            if stream is not None and stream.handed_over and not keep:
                conn.claimed_by = stream
            elif keep and getattr(offer, "made", None) is not None:
                if type(conn.parser) is not KeptParser:
                    conn.parser = KeptParser(conn.parser, self.cfg, self._alarm)
                conn.parser.learn(offer.made)
            return keep
        except Exception:
            raise
        except BaseException as error:
            # The pool would pass it on to the main thread, and everybody's worker would end.
            raise _contained(error) from error
        finally:
            make_offer(None)

    def handle(self, conn: TConn) -> Any:
        """Read and serve a request, on a thread of the pool, and those that follow soon."""
        # In this order: a connection is never in neither.
        self._served.add(conn)
        self._queued.popleft()
        try:
            return self._handle(conn)
        finally:
            self._served.discard(conn)

    def _handle(self, conn: TConn) -> Any:
        if type(conn.parser) is KeptParser:
            # For the main thread's poller it was not.
            conn.sock.setblocking(True)
        while True:
            request = conn.parser.take() if type(conn.parser) is KeptParser else None
            if request is not None:
                keep = self._handle_plain(request, conn)
            else:
                self.arrivals.expect(conn, lambda: conn.sock, self.head_seconds)
                try:
                    keep = super().handle(conn)
                finally:
                    self.arrivals.arrived(conn)
            if keep is not True or not self._wait_for_next(conn):
                return keep

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to the pool; runs on the main thread."""
        self._queued.append(conn)
        super().enqueue_req(conn)
        if len(self._served) >= self.cfg.threads and self._waiting.locked():
            # There is no thread but the one that waits.
            os.eventfd_write(self._alarm, 1)

    def _wait_for_next(self, conn: TConn) -> bool:
        """Wait a moment for the next request; whether it has come. By way of the main thread it changes threads twice."""
        # One thread at a time.
        if type(conn.parser) is not KeptParser or not self._waiting.acquire(blocking=False):
            return False
        try:
            # None while others wait for one: however busy it is, this client is not the only one. And only now, since whom the
            # main thread gives to the pool from here on it sees this thread waiting.
            return not self._queued and conn.parser.wait(self.next_milliseconds) and self.alive
        finally:
            self._waiting.release()

    def _handle_plain(self, request: Request, conn: TConn) -> bool:
        """Serve a request that was read; whether the connection is kept. As gunicorn does it, but for hooks and logs."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        response = KeptResponse(request, conn.sock, self.cfg)
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        try:
            try:
                return self._respond(request, response, conn)
            except Exception:
                raise
            except BaseException as error:
                raise _contained(error) from error
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                self.log.exception("Socket error processing request.")
        except Exception as error:
            if response.headers_sent:
                # A second answer behind half of one would be taken for its rest.
                self.log.exception("Error handling request")
                util.close_graceful(conn.sock)
            else:
                self.handle_error(request, conn.sock, conn.client, error)
        finally:
            make_offer(None)
            # It leads back to both.
            request.environ, response.environ = None, {}
        return False

    def _respond(self, request: Request, response: KeptResponse, conn: TConn) -> bool:
        environ = request.environ
        assert environ is not None
        environ["wsgi.early_hints"] = response.send_early_hints
        response.worker, response.environ = self, environ
        make_offer(response)
        body = self._application(environ, response.start_response)
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                response.write_file(body)
            else:
                for chunk in body:
                    response.write(chunk)
            response.close()
        finally:
            if hasattr(body, "close"):
                body.close()
        if not response.should_close():
            return True
        stream = response.claimed_by
        if stream is not None and stream.handed_over:
            conn.claimed_by = stream
        return False

    def handle_http2(self, conn: TConn) -> Any:
        """Serve a connection of HTTP/2, which is idle between requests."""
        self.arrivals.arrived(conn)
        return super().handle_http2(conn)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Decide what becomes of a connection; runs on the main thread."""
        failed = fs.cancelled() or fs.exception() is not None
        if not failed and fs.result():
            super().finish_request(conn, fs)
            if self.pending_conns and self.pending_conns[-1] is conn:
                # Nothing has come on it yet: gunicorn would give it the time of a connection that is kept alive.
                conn.timeout = min(conn.timeout, time.monotonic() + self.head_seconds)
            return
        self.nr_conns -= 1
        stream: EventStream | None = getattr(conn, "claimed_by", None)
        if stream is not None and not failed:
            self._hand_over(conn.sock, stream)
        else:
            if stream is not None:
                stream.hub.give_up(stream)
            # gunicorn would wait here for the client, on the thread that accepts everybody else.
            self.partings.begin(conn.sock)

    def _hand_over(self, connection: socket.socket, stream: EventStream) -> None:
        try:
            connection.setblocking(False)
            # From here on the engine owns the descriptor, and `connection` is detached.
            stream.hub.adopt(stream, connection)
        except LimitError:
            # Others came first: it has been told when to come back.
            stream.hub.give_up(stream)
            self.partings.begin(connection)
        except Exception:
            # Whatever it is, such as an error of the application's own ``admit``: all others have this thread, too.
            self.log.exception("A stream could not be handed over; its client will reconnect.")
            stream.hub.give_up(stream)
            connection.close()

    # ---- the worker ----

    def use(self, hub: Hub) -> None:
        """Watch over a hub, and drain it when the worker stops. Called for each stream, from any thread."""
        if hub not in self.hubs:
            self.hubs.add(hub)
            if self._draining:
                # Its first stream belongs to a request that was under way when the others were drained.
                hub.drain(0)

    def notify(self) -> None:
        """Beat, unless a loop of a hub is stuck: then the arbiter shall replace this worker. Called every second at least."""
        now = time.monotonic()
        if self.alive and now < self._beats_at:
            # gunicorn calls it before each request as well, and all of this would be a tenth of a publish.
            return
        self._beats_at = now + _BEAT_SECONDS
        self.arrivals.cut_late()
        self.partings.turn()
        # A copy: threads that serve requests add to it.
        if all(hub.is_healthy() for hub in tuple(self.hubs)):
            super().notify()
        if not self.alive:
            self._drain()

    def is_parent_alive(self) -> bool:
        """Whether the arbiter is there. Without it gunicorn stops to listen; and threads must stop to wait for requests."""
        if super().is_parent_alive():
            return True
        self.alive = False
        return False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once (SIGINT, SIGQUIT). Without this, threads that serve streams would hold the exit up."""
        for hub in tuple(self.hubs):
            hub.close()
        super().handle_quit(sig, frame)

    def run(self) -> None:
        """Serve until told to stop, then see the drain of all streams through."""
        self.poller.register(self.partings, selectors.EVENT_READ, lambda _: self.partings.turn())
        super().run()
        self._drain()
        self._wait_while(lambda: any(hub.streams or hub.producing for hub in tuple(self.hubs)), self._drained_by)
        self._wait_while(lambda: bool(self.partings), min(self._drained_by, time.monotonic() + _FAREWELL_SECONDS))
        self.partings.close()
        for hub in tuple(self.hubs):
            hub.close()

    def _wait_while(self, condition: Callable[[], bool], deadline: float) -> None:
        while condition() and time.monotonic() < deadline:
            super().notify()
            # Its poller is closed by now: without clients to wait for this only sleeps.
            self.partings.turn(_POLL)

    def connection_stats(self) -> dict[str, int]:
        """Counters of what clients that are slow or leave late have cost; safe to call from any thread."""
        return {
            "connections_parting": len(self.partings),
            "connections_seen_off": self.partings.seen_off,
            "connections_cut": self.partings.cut,
            "connections_input_discarded": self.partings.discarded_bytes,
            "heads_late": self.arrivals.late,
        }

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        most = max(self.cfg.graceful_timeout - _MARGIN, 0.0)
        self._drained_by = time.monotonic() + most
        for hub in tuple(self.hubs):
            # What lingers after the last bye is given its moment within the margin of the hub's own drain.
            # Runs may take all the time there is; then `close` ends them, which who listens is told, and only then streams.
            hub.drain(min(hub.drain_seconds, max(most - _MARGIN, 0.0)), spare=most + _MARGIN)
