"""``GET /logs/{name}``: one log of the settings, line by line, as a stream of the topic ``log/{name}``."""

from __future__ import annotations

import falcon

from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..topics import LOG_PREFIX


class LogResource:
    """The same stream as ``/events?topic=log/{name}``; with ``last_event_id=0-0`` it begins with the last lines."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._subscriber = namespaces.find(DEFAULT_NAMESPACE).subscriber

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Stream the log; 404 for a name that is not in the settings, whatever files there are."""
        self._subscriber.subscribe(req, resp, [LOG_PREFIX + name])

    on_head = on_get
