from __future__ import annotations

import pytest
from falcon.testing import Result, TestClient

from sse_core import Hub
from sse_kit.settings import Settings
from tests.application import app_of

ORIGIN = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def client(hub: Hub, *, origins: tuple[str, ...] = (ORIGIN,), credentials: bool = False) -> TestClient:
    return TestClient(app_of(hub, Settings(cors_origins=origins, cors_credentials=credentials)))


def allowed(result: Result) -> dict[str, str]:
    return {name: value for name, value in result.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/metrics", "/nothing", "/events", "/events?topic=a", "/n/default/events?topic=a", "/n/x/topics"],
)
def test_listed_origin(hub: Hub, path: str) -> None:
    """A listed origin may read every answer: streams, and errors too, which a browser would hide otherwise."""
    result = client(hub).simulate_head(path, headers={"Origin": ORIGIN}, extras={"wsgi.multiprocess": False})

    assert allowed(result) == {
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": "Content-Location, Location, Retry-After",
    }
    assert result.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://other.example", "http://app.example", "https://app.example:8443", "https://APP.example", "null"]
)
def test_other_origins(hub: Hub, origin: str) -> None:
    """An origin that is not listed exactly gets no leave, preflight or not."""
    asked = client(hub)

    assert allowed(asked.simulate_get("/healthz", headers={"Origin": origin})) == {}
    assert allowed(asked.simulate_options("/publish", headers={"Origin": origin, **PREFLIGHT})) == {}


def test_vary_without_origin(hub: Hub) -> None:
    """An answer to no origin varies by it too, or a cache would give it to one."""
    assert client(hub).simulate_get("/healthz").headers["vary"] == "Origin"


@pytest.mark.parametrize("path", ["/publish", "/n/default/publish"])
def test_preflight_for_publishing(hub: Hub, path: str) -> None:
    """A listed origin may post JSON, which browsers ask for first."""
    result = client(hub).simulate_options(path, headers={"Origin": ORIGIN, **PREFLIGHT})

    assert result.status_code == 200
    assert allowed(result) == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Authorization, Content-Type, Last-Event-ID",
        "access-control-max-age": "7200",
    }


def test_credentials(hub: Hub) -> None:
    """Cookies are let in only when the settings say so."""
    headers = {"Origin": ORIGIN}

    result = client(hub, credentials=True).simulate_get("/healthz", headers=headers)
    assert result.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-credentials" not in client(hub).simulate_get("/healthz", headers=headers).headers


def test_no_list(hub: Hub) -> None:
    """Without a list nothing about origins is sent."""
    result = client(hub, origins=()).simulate_get("/healthz", headers={"Origin": ORIGIN})

    assert allowed(result) == {}
    assert "vary" not in result.headers
