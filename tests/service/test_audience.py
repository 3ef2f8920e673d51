"""``/topics`` and ``/topics/{topic}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from sse_core import BackplaneError, Hub
from tests.application import app_of
from tests.servers import running_service


class CrowdedHub(Hub):
    """A hub whose numbers over all processes are given."""

    def __init__(self, audience: dict[str, int], present: dict[str, int] | None = None) -> None:
        super().__init__()
        self.crowd = audience
        self.present = present or {}

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        return self.crowd if topics is None else {topic: self.crowd.get(topic, 0) for topic in topics}

    def presence(self, topic: str) -> dict[str, int]:
        return self.present

    def workers(self) -> list[str]:
        return ["a:1", "b:1", "b:2"]


class LonelyHub(Hub):
    """A hub whose backplane is away."""

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        raise BackplaneError(2.5, "redis.internal:6379 does not answer")

    presence = workers = audience  # type: ignore[assignment]


def get(hub: Hub, path: str, **parameters: Any) -> Result:
    return TestClient(app_of(hub)).simulate_get(path, params=parameters)


def test_topics_by_streams() -> None:
    """The topics with the most streams come first, equal ones by name; processes are counted."""
    result = get(CrowdedHub({"b": 2, "c": 7, "a": 2}), "/topics")

    assert result.status_code == 200
    assert result.headers["cache-control"] == "no-store"
    assert result.json == {
        "workers": 3,
        "total": 3,
        "topics": [{"topic": "c", "streams": 7}, {"topic": "a", "streams": 2}, {"topic": "b", "streams": 2}],
    }


def test_the_answer_is_bounded() -> None:
    """However many topics there are, no more are listed than asked for, 100 by default; the total says how many."""
    hub = CrowdedHub({f"orders/{number:05}": number for number in range(1, 10_001)})

    assert len(get(hub, "/topics").json["topics"]) == 100
    few = get(hub, "/topics", limit=2).json
    assert few["total"] == 10_000
    assert [each["topic"] for each in few["topics"]] == ["orders/10000", "orders/09999"]


def test_prefix() -> None:
    """A prefix leaves the topics whose names begin with it, and only those are counted."""
    result = get(CrowdedHub({"orders/1": 1, "orders": 1, "chat/1": 5}), "/topics", prefix="orders/")

    assert result.json == {"workers": 3, "total": 1, "topics": [{"topic": "orders/1", "streams": 1}]}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.5", "9" * 50])
@pytest.mark.parametrize("path", ["/topics", "/topics/a"])
def test_impossible_limits(hub: Hub, path: str, limit: str) -> None:
    """A limit that is none, or beyond the bound, is refused by name."""
    result = get(hub, path, limit=limit)

    assert result.status_code == 400
    assert '"limit"' in result.json["detail"]


def test_one_topic() -> None:
    """One topic has its streams and, as far as known, whose they are, those with the most first and within the limit."""
    hub = CrowdedHub({"orders/1": 9}, {"ann": 1, "bob": 3, "cid": 1})

    assert get(hub, "/topics/orders/1", limit=2).json == {
        "topic": "orders/1",
        "streams": 9,
        "total": 3,
        "subjects": [{"subject": "bob", "streams": 3}, {"subject": "ann", "streams": 1}],
    }


@pytest.mark.parametrize(
    ("path", "topic"),
    [("/topics/a%2Fb", "a/b"), ("/topics/a b", "a b"), ("/topics/日本", "日本"), ("/topics/a/", "a/")],
)
def test_any_name(hub: Hub, path: str, topic: str) -> None:
    """A topic's name may have slashes and any text; one that nobody listens to has no streams."""
    result = get(hub, path)

    assert (result.status_code, result.json) == (200, {"topic": topic, "streams": 0, "total": 0, "subjects": []})


def test_no_name(hub: Hub) -> None:
    """What is no topic's name is refused."""
    result = get(hub, "/topics/%20a")

    assert (result.status_code, result.json["type"]) == (400, "urn:sse-kit:problem:invalid-topic")


@pytest.mark.parametrize("path", ["/topics", "/topics/a"])
def test_backplane_away(path: str) -> None:
    """While the backplane is away nobody knows the numbers of others, and half of the truth is not told for the whole."""
    result = get(LonelyHub(), path)

    assert (result.status_code, result.headers["retry-after"]) == (503, "3")
    assert result.json["type"] == "urn:sse-kit:problem:backplane-away"
    assert "redis.internal" not in result.text


def test_real_streams() -> None:
    """Open streams are counted by topic and by namespace."""
    with (
        running_service(namespaces=["orders"]) as server,
        server.reader("/events?topic=a&topic=b/c"),
        server.reader("/events?topic=a") as last,
        server.reader("/n/orders/events?topic=a") as other,
    ):
        server.publish("a", 1)
        last.read()
        body = b'{"topic":"a","data":1}'
        server.request("POST", "/n/orders/publish", body, {"Content-Type": "application/json"})
        other.read()
        listed = server.request("GET", "/topics").json()
        one = server.request("GET", "/topics/b/c").json()
        apart = server.request("GET", "/n/orders/topics").json()

    assert listed == {
        "workers": 1,
        "total": 2,
        "topics": [{"topic": "a", "streams": 2}, {"topic": "b/c", "streams": 1}],
    }
    assert (one["streams"], apart["topics"]) == (1, [{"topic": "a", "streams": 1}])
