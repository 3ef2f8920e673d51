from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from falcon.testing import TestClient

from sse_core import Hub
from sse_kit.namespaces import Namespaces
from sse_kit.problems import SLUGS
from sse_kit.settings import Settings
from tests.servers import Server, running_service


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service with three namespaces."""
    with running_service(namespaces=["orders", "chat.1"], drain_seconds=0.2) as server:
        yield server


def publish(server: Server, path: str, topic: str, data: object, **fields: object) -> dict[str, object]:
    body = json.dumps({"topic": topic, "data": data, **fields}).encode()
    answer = server.request("POST", path, body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer
    receipt: dict[str, object] = answer.json()
    return receipt


def test_namespaces_are_apart(server: Server) -> None:
    """The same topic in two namespaces is two topics: neither its live events nor its history cross over."""
    with (
        server.reader("/events?topic=apart") as plain,
        server.reader("/n/orders/events?topic=apart") as orders,
        server.reader("/n/chat.1/events?topic=apart") as chat,
    ):
        publish(server, "/publish", "apart", "plain")
        publish(server, "/n/orders/publish", "apart", "orders")
        publish(server, "/n/chat.1/publish", "apart", "chat")
        live = [reader.read()[0].data for reader in (plain, orders, chat)]
    with server.reader("/n/orders/events?topic=apart&last_event_id=0-0") as reader:
        (left,) = reader.read()

    assert live == ["plain", "orders", "chat"]
    assert left.data == "orders"


def test_keys_are_apart(server: Server) -> None:
    """The same idempotency key in two namespaces is two keys."""
    first = publish(server, "/n/orders/publish", "keys", 1, id="same")
    other = publish(server, "/n/chat.1/publish", "keys", 1, id="same")
    again = publish(server, "/n/orders/publish", "keys", 1, id="same")

    assert (first["duplicate"], other["duplicate"], again) == (False, False, {"id": first["id"], "duplicate": True})


def test_default_by_name(server: Server) -> None:
    """The namespace of the plain paths has a name, too."""
    with server.reader("/n/default/events?topic=named") as reader:
        event_id = server.publish("named", "x")
        (event,) = reader.read()

    assert event.id == event_id


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/n/other/events?topic=a"),
        ("POST", "/n/other/publish"),
        ("GET", "/n/other/topics"),
        ("GET", "/n/other/topics/a"),
    ],
)
def test_unknown_namespaces(server: Server, method: str, path: str) -> None:
    """A namespace that the settings do not name is a 404 that names it, whatever it is asked for."""
    answer = server.request(method, path, b'{"topic":"a","data":1}' if method == "POST" else None)

    assert answer.status == 404
    assert answer.json() == {
        "type": "urn:sse-kit:problem:unknown-namespace",
        "title": SLUGS["unknown-namespace"],
        "status": 404,
        "field": "namespace",
        "detail": "There is no namespace 'other' here.",
    }


def test_the_servers_own_topics_are_in_one(server: Server) -> None:
    """Counters and logs are the server's, not a namespace's: they are listened to by the plain paths."""
    assert server.request("GET", "/n/orders/events?topic=server/stats").status == 400
    assert server.request("GET", "/n/orders/events?topic=log/nginx").status == 404
    answer = server.request(
        "POST", "/n/orders/publish", b'{"topic":"log/a","data":1}', {"Content-Type": "application/json"}
    )
    assert (answer.status, answer.json()["type"]) == (403, "urn:sse-kit:problem:reserved-topic")


def test_command_line(server: Server) -> None:
    """The command line publishes to a namespace and listens to it."""
    server.run("publish", "cli", "plain")
    published = server.run("publish", "cli", "orders", "--namespace", "orders")
    listened = server.run("listen", "cli", "--namespace", "orders", "--last-event-id", "0-0", "--max", "1")
    refused = server.run("publish", "cli", "x", "--namespace", "a/b")

    assert (published.returncode, listened.stdout) == (0, "orders\n")
    assert (refused.returncode, refused.stderr.count("404")) == (1, 1)


def test_all_are_drained() -> None:
    """TERM sends the streams of every namespace away, and the server ends in order."""
    with running_service(namespaces=["orders"], drain_seconds=0.2, drain_retry=[1111, 1112]) as server:
        publish(server, "/n/orders/publish", "a", "kept")
        with (
            server.reader("/events?topic=a") as plain,
            server.reader("/n/orders/events?topic=a", last_event_id="0-0") as orders,
        ):
            orders.read()
            code = server.stop()
            plain.read_to_end()
            orders.read_to_end()

    assert code == 0
    assert (plain.retry in (1111, 1112), orders.retry in (1111, 1112)) == (True, True)


def test_the_bound_of_streams_is_the_processs() -> None:
    """All namespaces together have no more streams than the process may have; who is sent away is counted."""
    with (
        running_service(namespaces=["orders"], max_streams=2, drain_retry=[1111, 1111]) as server,
        server.reader("/events?topic=a") as first,
        server.reader("/n/orders/events?topic=a") as second,
    ):
        # Their openings come from the request; an event comes from a loop, which has counted the stream by then.
        publish(server, "/publish", "a", 1)
        publish(server, "/n/orders/publish", "a", 1)
        first.read()
        second.read()
        third = server.request("GET", "/n/orders/events?topic=a")
        metrics = server.request("GET", "/metrics").body.decode()

    assert (third.status, third.body) == (200, b"retry: 1111\n\n")
    assert 'sse_kit_streams_refused_total{namespace="orders"} 1.0' in metrics
    assert 'sse_kit_streams_refused_total{namespace="default"} 0.0' in metrics


def test_close() -> None:
    """Closing ends the hubs of all namespaces, and may be repeated."""
    hubs = {"default": Hub(), "orders": Hub()}
    namespaces = Namespaces(Settings(), hubs)
    for hub in hubs.values():
        hub.publish("a", 1)
    namespaces.close()
    namespaces.close()

    assert [hub.is_ready() for hub in hubs.values()] == [False, False]


def test_each_hub_is_its_own() -> None:
    """Every namespace of the settings has a hub, the default one first."""
    namespaces = Namespaces(Settings(namespaces=("b", "a", "b")))

    assert [namespace.name for namespace in namespaces] == ["default", "b", "a"]
    assert len({id(namespace.hub) for namespace in namespaces}) == 3


def test_cross_origin(client: TestClient) -> None:
    """An unknown namespace is told to other origins like any other error: only with leave."""
    result = client.simulate_get("/n/x/events", headers={"Origin": "https://app.example"})

    assert result.status_code == 404
    assert "access-control-allow-origin" not in result.headers
