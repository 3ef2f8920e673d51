"""``/healthz``: is this process worth keeping? ``/readyz``: should it be given new streams?"""

from __future__ import annotations

import falcon

from sse_core import Hub

NO_STORE = ("Cache-Control", "no-store")


class LivenessResource:
    """200 while every loop of the hub moves, else 503: only a new process can help then."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer from the loops' heartbeats."""
        resp.set_header(*NO_STORE)
        if not self._hub.is_healthy():
            raise falcon.HTTPServiceUnavailable(description="A loop that serves streams has stopped moving.")
        resp.data = b'{"status":"ok"}'

    on_head = on_get


class ReadinessResource:
    """200 while the hub takes streams and events, else 503: it is about to stop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer from the hub's state."""
        resp.set_header(*NO_STORE)
        if self._hub.draining:
            raise falcon.HTTPServiceUnavailable(
                description="This server is about to stop; its streams are being closed."
            )
        resp.data = b'{"status":"ready"}'

    on_head = on_get
