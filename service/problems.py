"""Every error leaves as a problem document (RFC 9457).

Errors of HTTP itself (no such path, wrong method, wrong media type) have the type ``about:blank``, as section 4.2.1 asks.
Errors that mean more have a type of their own, ``urn:sse-kit:problem:<slug>``; the slugs are `SLUGS`. Extension members:
``field`` (the part of the request at fault), ``line`` (of an ndjson body, from 1), ``limit`` and ``value`` (a bound that is
reached, by the name of its setting), ``grant`` and ``topic`` (what is missing, and for which topic).

The document is sent whatever the request's ``Accept`` says: an `EventSource` accepts text/event-stream only, and RFC 9110,
section 15.5.7, prefers a readable error over an empty one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import falcon
import msgspec
import structlog

from sse_core import BackplaneError, BusyError, EventError, HubClosedError, LimitError, SSEError, TopicError

from .names import NameRefusedError

MEDIA_TYPE = "application/problem+json"

# slug -> title; a title never changes from one occurrence to the next (RFC 9457, section 3.1.3).
SLUGS = {
    "invalid-json": "The body is not JSON",
    "invalid-event": "An event cannot be published as it is",
    "invalid-topic": "A topic's name is not valid",
    "reserved-topic": "The topic belongs to the server",
    "too-many-topics": "A stream cannot carry that many topics",
    "malformed-authorization": "The header Authorization is malformed",
    "unauthenticated": "Who sends the request is not known",
    "forbidden": "The token does not grant this",
    "revoked": "The topic is closed for now",
    "keys-away": "Tokens cannot be checked now",
    "unknown-revocation": "What to revoke is not said",
    "foreign-origin": "Pages of that origin may not do this",
    "unknown-log": "There is no such log",
    "unknown-key": "There is no such key",
    "invalid-parameter": "A parameter is not valid",
    "unknown-namespace": "There is no such namespace",
    "invalid-name": "A file's name is not valid",
    "invalid-generation": "The request for an answer is not valid",
    "unknown-provider": "There is no such provider",
    "provider-unavailable": "The provider cannot be used on this server",
    "unknown-model": "That model may not be used here",
    "unknown-run": "There is no such run",
    "unknown-probe": "There is no such probe",
    "too-large": "The request is larger than this server takes",
    "too-many-requests": "One client asks for more than its share",
    "too-slow": "The request took too long to come",
    "insufficient-storage": "There is no room for the file",
    "busy": "Nothing was published; try again",
    "limit-reached": "A bound of this server is reached",
    "stopping": "This server is about to stop",
    "backplane-away": "The backplane cannot be reached",
}

# A bound such as max_topics frees up when something ages or leaves, not at a known moment.
LIMIT_RETRY_SECONDS = 5
STOPPING_RETRY_SECONDS = 1
# While the backplane is away every request says so; the log needs it now and then.
AWAY_LOG_SECONDS = 5.0

_log = structlog.get_logger("sse_kit.problems")


class Problem(falcon.HTTPError):
    """A problem with a type of its own. ``slug`` is a key of `SLUGS`; what is not None of the rest extends the document.

    ``retry_after`` (seconds) becomes the header Retry-After; ``headers`` are sent beside it.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        field: str | None = None,
        line: int | None = None,
        limit: str | None = None,
        value: int | None = None,
        grant: str | None = None,
        topic: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sent = dict(headers or {})
        if retry_after is not None:
            sent["Retry-After"] = str(max(1, math.ceil(retry_after)))
        super().__init__(status, title=SLUGS[slug], description=detail, headers=sent)
        self.type = f"urn:sse-kit:problem:{slug}"
        members = {"field": field, "line": line, "limit": limit, "value": value, "grant": grant, "topic": topic}
        self.members = {name: member for name, member in members.items() if member is not None}


def document(error: falcon.HTTPError) -> dict[str, Any]:
    """Return the problem document of an error as a JSON object."""
    status = error.status_code
    if isinstance(error, Problem):
        found = {"type": error.type, "title": error.title, "status": status, **error.members}
    else:
        # With about:blank the title must be the status code's own phrase (RFC 9457, section 4.2.1).
        found = {"type": "about:blank", "title": falcon.code_to_http_status(status).partition(" ")[2], "status": status}
    if error.description:
        found["detail"] = error.description
    return found


def serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Write the problem document; Falcon has set the status and the error's headers already."""
    resp.content_type = MEDIA_TYPE
    resp.data = msgspec.json.encode(document(error))
    # Else a cache may keep a 404 or a 503 by its own rules.
    resp.set_header("Cache-Control", "no-store")


def event_problem(error: EventError, *, line: int | None = None) -> Problem:
    """Return the problem of an event, which stood on ``line`` of an ndjson body."""
    return Problem(422, "invalid-event", str(error), field=error.field, line=line)


def topic_problem(error: TopicError, *, line: int | None = None) -> Problem:
    """Return the problem of a topic in a publish request, which stood on ``line`` of an ndjson body."""
    limit = error.limit if isinstance(error, NameRefusedError) else None
    return Problem(422, "invalid-topic", str(error), field="topic", line=line, limit=limit)


def backplane_problem(error: BackplaneError, consequence: str) -> Problem:
    """Return the problem of a backplane that is away, with what that means for this request; the reason is logged.

    The reason names addresses behind us, which are no client's business.
    """
    _away_log.warn(error.reason)
    detail = f"What joins this service's processes cannot be reached. {consequence}"
    return Problem(503, "backplane-away", detail, retry_after=error.retry_after)


class _AwayLog:
    """Logs at most once in `AWAY_LOG_SECONDS`; how many were left out is of no use to anybody."""

    def __init__(self) -> None:
        self._next = 0.0

    def warn(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + AWAY_LOG_SECONDS
            _log.warning("backplane away", reason=reason)


_away_log = _AwayLog()


def problem_of(error: SSEError) -> Problem | None:
    """Return the problem that an error of the core is to a client, or None if it is the server's own fault."""
    detail = str(error)
    match error:
        case TopicError():
            return topic_problem(error)
        case EventError():
            return event_problem(error)
        case LimitError(limit="mailbox_bytes"):
            # Of a batch that would not even fit into an empty mailbox: no wait helps.
            return Problem(413, "too-large", detail, limit=error.limit, value=error.value)
        case LimitError():
            # 503 and not 429 or 409: it is the server that is full, whoever asks, and the same request may pass later.
            return Problem(
                503, "limit-reached", detail, limit=error.limit, value=error.value, retry_after=LIMIT_RETRY_SECONDS
            )
        case BackplaneError():
            return backplane_problem(error, "Its answer is not known; ask again.")
        case BusyError():
            return Problem(503, "busy", detail, retry_after=error.retry_after)
        case HubClosedError():
            return Problem(503, "stopping", detail, retry_after=STOPPING_RETRY_SECONDS)
    return None


def _answer_sse_error(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    assert isinstance(error, SSEError)
    raise problem_of(error) or _unexpected(req, error)


def _answer_unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    raise _unexpected(req, error)


def _unexpected(req: falcon.Request, error: Exception) -> falcon.HTTPError:
    """Log what went wrong with its traceback; the client learns only that something did."""
    _log.error("request failed", method=req.method, path=req.path, exc_info=error)
    return falcon.HTTPInternalServerError(description="The server failed to answer; the reason is in its log.")


def install(app: falcon.App[Any, Any], *, reached: Callable[[str], object] | None = None) -> None:
    """Make every error of ``app`` a problem document. ``reached`` is told the name of each limit that one is about."""

    def serialize_and_count(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
        limit = error.members.get("limit") if isinstance(error, Problem) else None
        if reached is not None and isinstance(limit, str):
            reached(limit)
        serialize(req, resp, error)

    app.set_error_serializer(serialize_and_count)
    # Falcon picks the handler of the most specific class, so its own for HTTPError stays in charge of those.
    app.add_error_handler(Exception, _answer_unexpected)
    app.add_error_handler(SSEError, _answer_sse_error)
