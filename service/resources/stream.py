"""``GET /events?topic=a&topic=b``: one stream of any number of topics, in the order of their ids."""

from __future__ import annotations

import falcon

from ..arrival import HEADER, arrival
from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..problems import Problem
from ..subscriber import MEDIA_TYPE
from ..topics import DOCTOR_PREFIX, is_probe


class StreamResource:
    """Answers with the hub's stream; the header Last-Event-ID beats the parameter ``last_event_id``.

    ``doctor`` is the keepalive in seconds that `sse-kit doctor` is told, with what arrived; None tells it nothing.
    """

    def __init__(self, namespaces: Namespaces, *, doctor: float | None = None) -> None:
        self._namespaces = namespaces
        self._doctor = doctor

    def on_get(self, req: falcon.Request, resp: falcon.Response, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Stream the topics named by the parameter ``topic``, which may be repeated."""
        found = self._namespaces.find(namespace)
        topics = req.get_param_as_list("topic")
        if not topics:
            raise Problem(400, "invalid-topic", "Name at least one topic: /events?topic=NAME", field="topic")
        if any(topic.startswith(DOCTOR_PREFIX) for topic in topics) and self._examine(req, resp, topics):
            return
        # A topic named twice is one topic; a dict keeps the order.
        found.subscriber.subscribe(req, resp, list(dict.fromkeys(topics)))

    on_head = on_get

    def _examine(self, req: falcon.Request, resp: falcon.Response, topics: list[str]) -> bool:
        """Tell what arrived. Whether that is all: a whole answer, in place of a stream, shows who keeps answers."""
        if self._doctor is None or len(topics) != 1 or not is_probe(topics[0].removeprefix(DOCTOR_PREFIX)):
            raise Problem(400, "reserved-topic", f"The server publishes nothing as {topics[0]!r}.", field="topic")
        resp.set_header(HEADER, arrival(req, keepalive=self._doctor))
        if not req.get_param_as_bool("whole"):
            return False
        resp.content_type = MEDIA_TYPE
        resp.set_header("Cache-Control", "no-cache, no-store")
        resp.set_header("X-Accel-Buffering", "no")
        resp.data = b": that is all\n\n"
        return True
