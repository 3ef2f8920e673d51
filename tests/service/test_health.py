from __future__ import annotations

from falcon.testing import TestClient

from sse_core import Hub
from tests.application import app_of
from tests.servers import running_service


class StuckHub(Hub):
    """A hub of which a loop has stopped."""

    def is_healthy(self) -> bool:
        return False


def test_well(client: TestClient) -> None:
    """A process that is well is alive and ready, before its first stream too; no cache keeps that."""
    alive, ready = client.simulate_get("/healthz"), client.simulate_get("/readyz")

    assert (alive.status_code, alive.json) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json) == (200, {"status": "ready"})
    assert alive.headers["cache-control"] == ready.headers["cache-control"] == "no-store"


def test_stuck() -> None:
    """A process whose loop has stopped is not alive."""
    result = TestClient(app_of(StuckHub())).simulate_get("/healthz")

    assert (result.status_code, result.json["title"]) == (503, "Service Unavailable")


def test_draining(client: TestClient, hub: Hub) -> None:
    """A process that drains is not ready, but alive: nobody shall kill it before it is done."""
    hub.drain()
    ready, alive = client.simulate_get("/readyz"), client.simulate_get("/healthz")

    assert (ready.status_code, ready.json["title"]) == (503, "Service Unavailable")
    assert alive.status_code == 200


def test_real_loops() -> None:
    """With streams open the heartbeats of the real loops count."""
    with running_service(loops=2) as server, server.reader("/events?topic=a"):
        assert server.request("GET", "/healthz").status == 200
        assert server.request("GET", "/readyz").status == 200
