"""From topics, or from a generator, to a response that streams: what all resources that answer with a stream share."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable

import falcon
import structlog

from sse_core import BackplaneError, EventStream, Hub, HubClosedError, LimitError, TopicError

from .auth import admission_of, check_subscribe
from .limits import Clients, Place, Reached, limit_of
from .names import NameRefusedError, TopicNames
from .problems import Problem
from .request_id import request_id_of
from .streamlog import StreamLog
from .topics import LOG_PREFIX, WATCH_PREFIX, Sources, UnknownSourceError

MEDIA_TYPE = "text/event-stream"

# No event has the number 0.
_EVENT_ID = re.compile(r"[1-9][0-9]*-[0-9]+")

_log = structlog.get_logger("sse_kit.subscriber")


class Subscriber:
    """Answers requests with streams of the hub. Thread-safe.

    ``retry`` is the range, in milliseconds, told to who is sent away. ``has_room`` tells whether the process may have one
    more stream. A hub says that too, of its own, but not before the stream's first byte: a run whose stream finds no
    room then would have been begun for nobody, again each time that its client comes back.
    """

    def __init__(
        self,
        namespace: str,
        hub: Hub,
        sources: Sources,
        *,
        retry: tuple[int, int],
        has_room: Callable[[], bool],
        clients: Clients,
        names: TopicNames,
        reached: Reached,
        stream_log: StreamLog | None = None,
    ) -> None:
        self._namespace = namespace
        self._hub = hub
        self._sources = sources
        self._retry = retry
        self._has_room = has_room
        self._stream_log = stream_log
        self._clients = clients
        self._names = names
        self._reached = reached
        self._lock = threading.Lock()
        #: Streams that were sent away because the process had no room for them.
        self.sent_away = 0

    def subscribe(self, req: falcon.Request, resp: falcon.Response, topics: list[str]) -> None:
        """Make ``resp`` the stream of ``topics``. Raises problems for what is final: 400, 403, 404, 406."""
        _check_accept(req)
        # Before anything is begun or fetched for one of them.
        check_subscribe(req, self._namespace, topics)
        for topic in () if self._names.all else topics:
            try:
                self._names.check(topic)
            except NameRefusedError as error:
                raise Problem(400, "invalid-topic", str(error), field="topic", limit=error.limit) from None
        try:
            self._sources.start(topics)
        except UnknownSourceError as error:
            raise _unknown(error.topic) from None
        try:
            self._answer(
                req,
                resp,
                lambda: self._hub.subscribe(
                    topics, environ=req.env, request_id=self._logged_id(req), **admission_of(req, topics)
                ),
            )
        except TopicError as error:
            raise Problem(400, "invalid-topic", str(error), field="topic") from None
        except LimitError as error:
            # Of this request's own topics: no wait helps.
            detail = f"{len(topics)} topics are asked for; {error}"
            raise Problem(400, "too-many-topics", detail, limit=error.limit, value=error.value) from None

    def produce(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        source: Callable[[], Iterable[object]],
        *,
        abort: Callable[[], object] | None = None,
        abandon_after: float = 30.0,
    ) -> None:
        """Make ``resp`` the stream of what ``source`` yields, which goes on where it was for a client that comes back.

        ``abort`` ends a source that is blocked, ``abandon_after`` seconds without a listener end any (see `Hub.stream`).
        Raises 406; what else hinders it is told softly.
        """
        _check_accept(req)
        try:
            # Who comes back gets the run that it has.
            place = self._clients.enter_run(req) if not comes_back(req) else Place(lambda: None)
        except Problem:
            self._reached.count("max_producers_per_client")
            self._send_away(resp)
            return
        try:
            self._answer(
                req,
                resp,
                lambda: self._hub.stream(
                    place.of(source),
                    req.env,
                    abort=abort,
                    abandon_after=abandon_after,
                    request_id=self._logged_id(req),
                    **admission_of(req, ()),
                ),
            )
        except BackplaneError as error:
            # Nothing runs yet, or it cannot be found now: worth to come back for, and so no status that is final.
            _log.warning("no stream while the backplane is away", reason=error.reason)
            self._send_away(resp)
        finally:
            if not (isinstance(resp.stream, EventStream) and resp.stream.topics):
                # Nothing was begun, and so nothing will end.
                place.leave()

    def _logged_id(self, req: falcon.Request) -> str | None:
        """What the end of the request's stream is logged with; None where it is not."""
        if self._stream_log is None:
            return None
        self._stream_log.start()
        return request_id_of(req)

    def _answer(self, req: falcon.Request, resp: falcon.Response, make: Callable[[], EventStream]) -> None:
        """Set the stream that ``make`` returns, or answer softly if there is no room. Raises what ``make`` does else."""
        if not self._has_room():
            with self._lock:
                self.sent_away += 1
            self._reached.count("max_streams")
            self._send_away(resp)
            return
        quotas = self._clients.quotas(req)
        full = self._hub.full(quotas) if quotas else None
        if full is not None:
            self._reached.count(limit_of(full))
            self._send_away(resp)
            return
        try:
            stream = make()
        except LimitError as error:
            if error.limit == "max_stream_topics":
                raise
            self._reached.count(error.limit)
            self._send_away(resp)
        except HubClosedError:
            self._send_away(resp)
        else:
            stream.quotas = quotas
            resp.status = stream.status
            for name, value in stream.headers:
                resp.set_header(name, value)
            if not stream.over:
                # Falcon hands an iterable without .read to the server as it is, and so the worker can claim it.
                resp.stream = stream

    def _send_away(self, resp: falcon.Response) -> None:
        """Answer softly: any status but 200 ends a browser's EventSource for good (HTML standard, section 9.2.3)."""
        resp.content_type = MEDIA_TYPE
        resp.set_header("Cache-Control", "no-cache, no-store")
        resp.set_header("X-Accel-Buffering", "no")
        # The spread keeps those who are sent away together from coming back together.
        resp.data = b"retry: %d\n\n" % random.randint(*self._retry)


def comes_back(req: falcon.Request) -> bool:
    """Whether a request names an id that the hub may have given to an event: whoever sends it has been here before."""
    last = req.get_header("Last-Event-ID") or req.get_param("last_event_id") or ""
    return _EVENT_ID.fullmatch(last) is not None


def _check_accept(req: falcon.Request) -> None:
    """Raise 406 for a request that accepts no event stream."""
    if not req.client_accepts(MEDIA_TYPE):
        raise falcon.HTTPNotAcceptable(description=f"This resource is a stream of {MEDIA_TYPE}.")


def _unknown(topic: str) -> Problem:
    if topic.startswith(LOG_PREFIX):
        return Problem(404, "unknown-log", f"No log named {topic.removeprefix(LOG_PREFIX)!r} is shown here.")
    if topic.startswith(WATCH_PREFIX):
        return Problem(404, "unknown-key", f"No key named {topic.removeprefix(WATCH_PREFIX)!r} is watched here.")
    return Problem(400, "reserved-topic", f"The server publishes nothing as {topic!r}.", field="topic")
