"""``/healthz``: is this process worth keeping? ``/readyz``: should it be given new streams?"""

from __future__ import annotations

import falcon

from ..namespaces import Namespaces
from ..problems import Problem

NO_STORE = ("Cache-Control", "no-store")


# How soon a probe may see the backplane back: it is looked for all the time.
AWAY_RETRY_SECONDS = 1


class LivenessResource:
    """200 while every loop of every hub moves, else 503: only a new process can help then.

    A backplane that is away changes nothing here: a new process would not reach it either, and would end all streams.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer from the loops' heartbeats."""
        resp.set_header(*NO_STORE)
        if not all(namespace.hub.is_healthy() for namespace in self._namespaces):
            raise falcon.HTTPServiceUnavailable(description="A loop that serves streams has stopped moving.")
        resp.data = b'{"status":"ok"}'

    on_head = on_get


class ReadinessResource:
    """200 while streams and events are taken, else 503: about to stop, or ``backplane`` (a name for it) is away."""

    def __init__(self, namespaces: Namespaces, *, backplane: str) -> None:
        self._namespaces = namespaces
        self._backplane = backplane

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer from the hubs' state."""
        resp.set_header(*NO_STORE)
        hubs = [namespace.hub for namespace in self._namespaces]
        if any(hub.draining for hub in hubs):
            raise falcon.HTTPServiceUnavailable(
                description="This server is about to stop; its streams are being closed."
            )
        if not all(hub.is_ready() for hub in hubs):
            detail = f"The backplane, {self._backplane}, cannot be reached. Open streams stay open."
            raise Problem(503, "backplane-away", detail, retry_after=AWAY_RETRY_SECONDS)
        resp.data = b'{"status":"ready"}'

    on_head = on_get
