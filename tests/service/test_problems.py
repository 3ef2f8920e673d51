from __future__ import annotations

import json
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from sse_core import BusyError, EventError, Hub, HubClosedError, LimitError, MultiprocessError, TopicError
from sse_kit.problems import SLUGS
from sse_kit.settings import Settings
from tests.application import app_of


class FailingHub(Hub):
    """A hub that fails in the way it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def publish(self, *_: Any, **__: Any) -> Any:
        raise self.error

    def subscribe(self, *_: Any, **__: Any) -> Any:
        raise self.error


def problem(result: Result) -> dict[str, Any]:
    """The problem document, which must agree with the status line."""
    assert result.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = result.json
    assert document["status"] == result.status_code
    return document


def publish_with(error: Exception) -> Result:
    client = TestClient(app_of(FailingHub(error)))
    return client.simulate_post("/publish", json={"topic": "a", "data": 1})


@pytest.mark.parametrize("path", ["/nothing", "/events/", "/publish/a", "/static/nothing", "/logs"])
def test_unknown_paths(client: TestClient, path: str) -> None:
    """A path that does not exist is a 404 with a problem document of HTTP's own type."""
    document = problem(client.simulate_get(path))

    assert (document["type"], document["title"]) == ("about:blank", "Not Found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/events", "GET, HEAD"),
        ("GET", "/publish", "POST"),
        ("PUT", "/publish", "POST"),
        ("POST", "/static/main.js", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ],
)
def test_wrong_methods(client: TestClient, method: str, path: str, allow: str) -> None:
    """A wrong method is a 405 that lists the right ones."""
    result = client.simulate_request(method, path)

    assert result.headers["allow"] == f"{allow}, OPTIONS"
    assert problem(result)["title"] == "Method Not Allowed"


def test_options(client: TestClient) -> None:
    """OPTIONS lists the methods of a path."""
    result = client.simulate_options("/publish")

    assert (result.status_code, result.headers["allow"]) == (200, "POST")


def test_accept_is_ignored_by_errors(client: TestClient) -> None:
    """An EventSource, which accepts event streams only, is told by a problem document what was wrong."""
    result = client.simulate_get("/events", headers={"Accept": "text/event-stream"})

    assert problem(result)["type"] == "urn:sse-kit:problem:invalid-topic"


def test_errors_are_not_cached(client: TestClient) -> None:
    """No cache may keep an error."""
    assert client.simulate_get("/nothing").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status", "slug", "retry_after"),
    [
        (BusyError(0.2), 503, "busy", "1"),
        (BusyError(2.5), 503, "busy", "3"),
        (LimitError("max_topics", 7), 503, "limit-reached", "5"),
        (LimitError("mailbox_bytes", 7), 413, "too-large", None),
        (HubClosedError("closed"), 503, "stopping", "1"),
        (TopicError("bad"), 422, "invalid-topic", None),
        (EventError("data", "bad"), 422, "invalid-event", None),
    ],
)
def test_errors_of_the_core(error: Exception, status: int, slug: str, retry_after: str | None) -> None:
    """Each error of the core has its status, its type, and a Retry-After when a repetition can help."""
    result = publish_with(error)

    assert result.status_code == status
    assert result.headers.get("retry-after") == retry_after
    document = problem(result)
    assert document["type"] == f"urn:sse-kit:problem:{slug}"
    assert document["title"] == SLUGS[slug]


def test_limits_are_named() -> None:
    """A bound that is reached is named by its setting and value."""
    document = problem(publish_with(LimitError("max_topics", 7)))

    assert (document["limit"], document["value"]) == ("max_topics", 7)


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), MultiprocessError("secret")])
def test_unexpected_errors(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody expected is a 500 that tells the client nothing and the log everything."""
    result = publish_with(error)

    assert result.status_code == 500
    assert "secret" not in json.dumps(problem(result))
    (record,) = [record for record in caplog.records if record.name == "sse_kit.problems"]
    assert record.msg["exc_info"] is error  # type: ignore[index]


@pytest.mark.parametrize("error", [HubClosedError("closed"), LimitError("max_topics", 7)])
def test_full_and_stopping_servers_answer_streams_softly(error: Exception) -> None:
    """A stream that cannot be had now is a 200 with one jittered retry: any other status ends an EventSource for good."""
    client = TestClient(app_of(FailingHub(error), Settings(drain_retry=(100, 200))))

    result = client.simulate_get("/events", query_string="topic=a")

    assert (result.status_code, result.headers["content-type"]) == (200, "text/event-stream")
    field, _, value = result.text.partition(": ")
    assert field == "retry"
    assert 100 <= int(value) <= 200


def test_too_many_topics() -> None:
    """More topics than a stream may have are a final 400, with the bound's name."""
    with Hub(max_stream_topics=2) as hub:
        result = TestClient(app_of(hub)).simulate_get("/events", query_string="topic=a&topic=b&topic=c")

    document = problem(result)
    assert (document["status"], document["limit"], document["value"]) == (400, "max_stream_topics", 2)


@pytest.mark.parametrize(
    ("query", "status", "slug"),
    [
        ("", 400, "invalid-topic"),
        ("topic=", 400, "invalid-topic"),
        ("topic=%20a", 400, "invalid-topic"),
        ("topic=a%0Ab", 400, "invalid-topic"),
        ("topic=" + "a" * 201, 400, "invalid-topic"),
        ("topic=server/nothing", 400, "reserved-topic"),
        ("topic=a&topic=log/nothing", 404, "unknown-log"),
    ],
)
def test_wrong_topics(client: TestClient, query: str, status: int, slug: str) -> None:
    """A stream of topics that cannot be is refused for good."""
    document = problem(client.simulate_get("/events", query_string=query))

    assert (document["status"], document["type"]) == (status, f"urn:sse-kit:problem:{slug}")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/event-stream", 200),
        ("*/*", 200),
        ("text/*", 200),
        ("text/html", 406),
        ("application/json, text/event-stream;q=0", 406),
    ],
)
def test_accept(client: TestClient, accept: str, status: int) -> None:
    """A stream is refused to who does not accept one."""
    one_process = {"wsgi.multiprocess": False}
    result = client.simulate_head("/events", query_string="topic=a", headers={"Accept": accept}, extras=one_process)

    assert result.status_code == status
