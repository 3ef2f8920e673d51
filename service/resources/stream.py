"""``GET /events?topic=a&topic=b``: one stream of any number of topics, in the order of their ids."""

from __future__ import annotations

import falcon

from ..problems import Problem
from ..subscriber import Subscriber


class StreamResource:
    """Answers with the hub's stream; the header Last-Event-ID beats the parameter ``last_event_id``."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream the topics named by the parameter ``topic``, which may be repeated."""
        topics = req.get_param_as_list("topic")
        if not topics:
            raise Problem(400, "invalid-topic", "Name at least one topic: /events?topic=NAME", field="topic")
        # A topic named twice is one topic; a dict keeps the order.
        self._subscriber.subscribe(req, resp, list(dict.fromkeys(topics)))

    on_head = on_get
