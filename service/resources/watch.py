"""``GET /watch/{key}``: the value of a key of Redis, now and whenever it changes, as a stream of ``watch/{key}``."""

from __future__ import annotations

import falcon

from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..topics import WATCH_PREFIX


class WatchResource:
    """The same stream as ``/events?topic=watch/{key}``: the value that the key has comes first."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._subscriber = namespaces.find(DEFAULT_NAMESPACE).subscriber

    def on_get(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Stream the key; 404 for one that is not in the settings, whatever keys there are."""
        self._subscriber.subscribe(req, resp, [WATCH_PREFIX + key])

    on_head = on_get
