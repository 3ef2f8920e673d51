"""From topics to a response that streams them: what ``/events`` and ``/logs/{name}`` share."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import falcon

from sse_core import Hub, HubClosedError, LimitError, TopicError

from .problems import Problem
from .topics import LOG_PREFIX, Sources, UnknownSourceError

MEDIA_TYPE = "text/event-stream"


class Subscriber:
    """Answers requests with streams of the hub. Thread-safe.

    ``retry`` is the range, in milliseconds, told to who is sent away. ``has_room`` tells whether the process may have one
    more stream; None where the hub's own bound says that.
    """

    def __init__(
        self, hub: Hub, sources: Sources, *, retry: tuple[int, int], has_room: Callable[[], bool] | None = None
    ) -> None:
        self._hub = hub
        self._sources = sources
        self._retry = retry
        self._has_room = has_room
        self._lock = threading.Lock()
        #: Streams that were sent away because the process had no room for them.
        self.sent_away = 0

    def subscribe(self, req: falcon.Request, resp: falcon.Response, topics: list[str]) -> None:
        """Make ``resp`` the stream of ``topics``. Raises problems for what is final: 400, 404, 406."""
        if not req.client_accepts(MEDIA_TYPE):
            raise falcon.HTTPNotAcceptable(description=f"This resource is a stream of {MEDIA_TYPE}.")
        try:
            self._sources.start(topics)
            if self._has_room is not None and not self._has_room():
                with self._lock:
                    self.sent_away += 1
                self._send_away(resp)
                return
            stream = self._hub.subscribe(topics, environ=req.env)
        except UnknownSourceError as error:
            raise _unknown(error.topic) from None
        except TopicError as error:
            raise Problem(400, "invalid-topic", str(error), field="topic") from None
        except LimitError as error:
            if error.limit == "max_stream_topics":
                detail = f"{len(topics)} topics are asked for; {error}"
                raise Problem(400, "too-many-topics", detail, limit=error.limit, value=error.value) from None
            self._send_away(resp)
        except HubClosedError:
            self._send_away(resp)
        else:
            for name, value in stream.headers:
                resp.set_header(name, value)
            # Falcon hands an iterable without .read to the server as it is, and so the worker can claim it.
            resp.stream = stream

    def _send_away(self, resp: falcon.Response) -> None:
        """Answer softly: any status but 200 ends a browser's EventSource for good (HTML standard, section 9.2.3)."""
        resp.content_type = MEDIA_TYPE
        resp.set_header("Cache-Control", "no-cache, no-store")
        resp.set_header("X-Accel-Buffering", "no")
        # The spread keeps those who are sent away together from coming back together.
        resp.data = b"retry: %d\n\n" % random.randint(*self._retry)


def _unknown(topic: str) -> Problem:
    if topic.startswith(LOG_PREFIX):
        return Problem(404, "unknown-log", f"No log named {topic.removeprefix(LOG_PREFIX)!r} is shown here.")
    return Problem(400, "reserved-topic", f"The server publishes nothing as {topic!r}.", field="topic")
