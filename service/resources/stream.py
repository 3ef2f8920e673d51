"""``GET /events?topic=a&topic=b``: one stream of any number of topics, in the order of their ids."""

from __future__ import annotations

import falcon

from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..problems import Problem


class StreamResource:
    """Answers with the hub's stream; the header Last-Event-ID beats the parameter ``last_event_id``."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def on_get(self, req: falcon.Request, resp: falcon.Response, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Stream the topics named by the parameter ``topic``, which may be repeated."""
        found = self._namespaces.find(namespace)
        topics = req.get_param_as_list("topic")
        if not topics:
            raise Problem(400, "invalid-topic", "Name at least one topic: /events?topic=NAME", field="topic")
        # A topic named twice is one topic; a dict keeps the order.
        found.subscriber.subscribe(req, resp, list(dict.fromkeys(topics)))

    on_head = on_get
