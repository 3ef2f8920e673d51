"""``/topics``: who listens to what, over all processes of a namespace. ``/topics/{topic}``: one of them, with names."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import falcon
import msgspec

from sse_core import TopicError, check_topic

from ..auth import check_subscribe, may_subscribe
from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..problems import Problem

MOST_ENTRIES = 1000
DEFAULT_ENTRIES = 100
NO_STORE = ("Cache-Control", "no-store")


class TopicsResource:
    """The topics that have streams, those with the most first, and how many processes take part.

    ``prefix`` leaves those whose names begin with it. At most ``limit`` are listed; ``total`` says how many there are.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def on_get(self, req: falcon.Request, resp: falcon.Response, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Answer with numbers that are a few seconds old at most: each process reports its own from time to time."""
        hub = self._namespaces.find(namespace).hub
        limit = _limit(req)
        prefix = req.get_param("prefix", default="")
        audience = {topic: streams for topic, streams in hub.audience().items() if topic.startswith(prefix)}
        # What one may not listen to one need not know of.
        audience = {topic: streams for topic, streams in audience.items() if may_subscribe(req, namespace, topic)}
        resp.data = msgspec.json.encode(
            {
                "workers": len(hub.workers()),
                "total": len(audience),
                "topics": [{"topic": topic, "streams": streams} for topic, streams in _most(audience, limit)],
            }
        )
        resp.set_header(*NO_STORE)

    on_head = on_get


class TopicResource:
    """One topic: its streams over all processes, and whose they are as far as that is known."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, topic: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        """Answer for any topic's name: one that nobody listens to has no streams. At most ``limit`` subjects are listed."""
        hub = self._namespaces.find(namespace).hub
        limit = _limit(req)
        try:
            check_topic(topic)
        except TopicError as error:
            raise Problem(400, "invalid-topic", str(error), field="topic") from None
        check_subscribe(req, namespace, (topic,))
        presence = hub.presence(topic)
        resp.data = msgspec.json.encode(
            {
                "topic": topic,
                "streams": hub.audience([topic]).get(topic, 0),
                "total": len(presence),
                "subjects": [{"subject": subject, "streams": streams} for subject, streams in _most(presence, limit)],
            }
        )
        resp.set_header(*NO_STORE)

    on_head = on_get


def _limit(req: falcon.Request) -> int:
    return req.get_param_as_int("limit", min_value=1, max_value=MOST_ENTRIES, default=DEFAULT_ENTRIES)


def _most(numbers: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The entries with the highest numbers, equal ones by name, so that two looks at the same numbers agree."""
    return heapq.nsmallest(limit, numbers.items(), key=lambda entry: (-entry[1], entry[0]))
