from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from sse_core import Event, Hub, Receipt
from sse_kit.settings import Settings
from tests.application import app_of


class RecordingHub(Hub):
    """A hub that remembers what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[str, Event]] = []

    def publish(self, topic: str, data: Any, **fields: Any) -> Receipt:
        receipt = super().publish(topic, data, **fields)
        self.published.append((topic, data))
        return receipt

    def publish_many(self, items: Any) -> list[Receipt]:
        items = list(items)
        receipts = super().publish_many(items)
        self.published += items
        return receipts


@pytest.fixture
def recording() -> Iterator[RecordingHub]:
    """A hub that ends with the test."""
    with RecordingHub() as hub:
        yield hub


Post = Callable[..., Result]


@pytest.fixture
def post(recording: RecordingHub) -> Post:
    """Post bytes to /publish, as JSON unless said otherwise."""
    client = TestClient(app_of(recording, Settings(max_body_bytes=1000, max_batch_events=3)))

    def post(body: bytes, content_type: str = "application/json", **headers: str) -> Result:
        return client.simulate_post("/publish", body=body, headers={"Content-Type": content_type, **headers})

    return post


def test_receipt(post: Post, recording: RecordingHub) -> None:
    """A published event is answered with the id that subscribers will see."""
    result = post(b'{"topic": "a", "data": "hello", "event": "greeting", "retry": 5000}')

    assert result.status_code == 200
    assert result.headers["content-type"] == "application/json"
    assert result.json == {"id": recording.horizon, "duplicate": False}
    assert recording.published == [("a", Event("hello", event="greeting", retry=5000))]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b'"text"', "text"),
        (b'""', ""),
        (b'"two\\nlines \\u00e4 \\ud83d\\ude00"', "two\nlines ä 😀"),
        ('"ä"'.encode(), "ä"),
        (b"null", "null"),
        (b"true", "true"),
        (b"0", "0"),
        (b"-1.50", "-1.50"),
        (b"1e400", "1e400"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b'{"b": 1, "a" :\t[ ]\n,\r\n"b":2}', '{"b":1,"a":[],"b":2}'),
        (b'["a b", "\\n", "\\u00e4"]', '["a b","\\n","\\u00e4"]'),
    ],
)
def test_data(post: Post, recording: RecordingHub, value: bytes, data: str) -> None:
    """Text is sent as that text, and any other value as its compact JSON, with every token as it was written."""
    assert post(b'{"topic": "a", "data": %b}' % value).status_code == 200

    assert recording.published == [("a", Event(data))]


@pytest.mark.parametrize("value", [b'{"a":\n1}', b'"a\\nb"', b'[\r\n"data: x"]'])
def test_no_injection(post: Post, recording: RecordingHub, value: bytes) -> None:
    """No line end of the request becomes a field of its own on the wire."""
    post(b'{"topic": "a", "data": %b}' % value)

    (_, event), *_ = recording.published
    expected = json.loads(value)
    assert (event.data if isinstance(expected, str) else json.loads(event.data or "")) == expected


def test_idempotency(post: Post) -> None:
    """The same key again publishes nothing and returns the first receipt."""
    body = b'{"topic": "a", "data": 1, "id": "key"}'
    first, second = post(body).json, post(body).json

    assert first["duplicate"] is False
    assert second == {"id": first["id"], "duplicate": True}


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        (b"", 400, "invalid-json", None),
        (b"{", 400, "invalid-json", None),
        (b'{"topic": "a", "data": 1} x', 400, "invalid-json", None),
        (b'{"topic": "a", "data": NaN}', 400, "invalid-json", None),
        (b'{"topic": "a", "data": "\\ud800"}', 400, "invalid-json", None),
        (b'{"topic": "a", "data": ["\\ud800"]}', 400, "invalid-json", None),
        (b'{"topic": "a", "data": "\xff"}', 400, "invalid-json", None),
        (b'{"topic": "a", "data": ["\xff"]}', 400, "invalid-json", None),
        (b'{"topic": "\xff", "data": 1}', 400, "invalid-json", None),
        (b'\xef\xbb\xbf{"topic": "a", "data": 1}', 400, "invalid-json", None),
        (b"[]", 422, "invalid-event", None),
        (b'{"data": 1}', 422, "invalid-event", "topic"),
        (b'{"topic": "a"}', 422, "invalid-event", "data"),
        (b'{"topic": 1, "data": 1}', 422, "invalid-event", "topic"),
        (b'{"topic": "a", "data": 1, "evnt": "x"}', 422, "invalid-event", "evnt"),
        (b'{"topic": "a", "data": 1, "retry": "1"}', 422, "invalid-event", "retry"),
        (b'{"topic": "a", "data": 1, "retry": -1}', 422, "invalid-event", "retry"),
        (b'{"topic": "a", "data": 1, "retry": true}', 422, "invalid-event", "retry"),
        (b'{"topic": "a", "data": 1, "event": "x\\ndata: y"}', 422, "invalid-event", "event"),
        (b'{"topic": "a", "data": 1, "id": "x\\r"}', 422, "invalid-event", "id"),
        (b'{"topic": "a", "data": 1, "id": "x\\u0000"}', 422, "invalid-event", "id"),
        (b'{"topic": "", "data": 1}', 422, "invalid-topic", "topic"),
        (b'{"topic": "a\\nb", "data": 1}', 422, "invalid-topic", "topic"),
        (b'{"topic": " a", "data": 1}', 422, "invalid-topic", "topic"),
        (b'{"topic": "log/nginx", "data": 1}', 403, "reserved-topic", "topic"),
        (b'{"topic": "server/stats", "data": 1}', 403, "reserved-topic", "topic"),
    ],
)
@pytest.mark.parametrize("line", [None, 2])
def test_bad_events(
    post: Post, recording: RecordingHub, body: bytes, status: int, slug: str, field: str | None, line: int | None
) -> None:
    """What is no event is refused with the field's name, and in a batch with the line's number; nothing is published."""
    if line is None:
        result = post(body)
    elif body:
        result = post(b'{"topic": "a", "data": 0}\n' + body, "application/x-ndjson")
    else:
        result = post(b'{"topic": "a", "data": 0}\n{', "application/x-ndjson")

    assert result.status_code == status
    problem = result.json
    assert problem["type"] == f"urn:sse-kit:problem:{slug}"
    assert (problem.get("field"), problem.get("line")) == (field, line)
    assert recording.published == []


def test_deep_nesting(hub: Hub) -> None:
    """A value that is nested beyond reason is refused instead of ending the process."""
    client = TestClient(app_of(hub))
    body = b'{"topic": "a", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    result = client.simulate_post("/publish", body=body, headers={"Content-Type": "application/json"})

    assert (result.status_code, result.json["type"]) == (400, "urn:sse-kit:problem:invalid-json")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_media_types(post: Post, content_type: str) -> None:
    """Only JSON and ndjson are taken: a plain form of a foreign page is not."""
    result = post(b'{"topic": "a", "data": 1}', content_type)

    assert (result.status_code, result.json["title"]) == (415, "Unsupported Media Type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x-ndjson;charset=UTF-8"]
)
def test_media_type_parameters(post: Post, content_type: str) -> None:
    """Parameters and case of the media type do not matter."""
    assert post(b'{"topic": "a", "data": 1}', content_type).status_code == 200


def test_body_bound(post: Post, recording: RecordingHub) -> None:
    """A body above the bound is refused and the bound named; one at the bound is taken."""
    most = b'{"topic": "a", "data": "%b"}' % (b"x" * (1000 - 26))
    assert len(most) == 1000

    assert post(most).status_code == 200
    result = post(most + b" ")
    assert (result.status_code, result.json["limit"], result.json["value"]) == (413, "max_body_bytes", 1000)
    assert len(recording.published) == 1


def test_event_bound() -> None:
    """A single event that is too large once framed is refused, and in a batch its line is named."""
    large = b'{"topic":"a","data":"%b"}' % (b"x" * 90)
    with Hub(max_event_bytes=100) as hub:
        client = TestClient(app_of(hub))
        single = client.simulate_post("/publish", body=large, headers={"Content-Type": "application/json"})
        batch = client.simulate_post(
            "/publish",
            body=b'{"topic":"a","data":0}\n' + large + b'\n{"topic":"a","data":0}',
            headers={"Content-Type": "application/x-ndjson"},
        )

    assert (single.status_code, single.json["field"]) == (422, "data")
    assert (batch.status_code, batch.json["field"], batch.json["line"]) == (422, "data", 2)


def test_batch(post: Post, recording: RecordingHub) -> None:
    """A batch is published in its order, blank lines skipped, and answered with one receipt a line."""
    result = post(
        b'{"topic":"a","data":1}\n\n{"topic":"b","data":"two","id":"k"}\r\n{"topic":"a","data":1,"id":"k"}',
        "application/x-ndjson",
    )

    assert result.status_code == 200
    assert result.headers["content-type"] == "application/x-ndjson"
    receipts = [json.loads(line) for line in result.text.splitlines()]
    assert [receipt["duplicate"] for receipt in receipts] == [False, False, True]
    assert receipts[1]["id"] == receipts[2]["id"] == recording.horizon
    assert recording.published[:2] == [("a", Event("1")), ("b", Event("two", id="k"))]


def test_empty_batch(post: Post) -> None:
    """A batch of nothing is answered with no receipt."""
    result = post(b"\n", "application/x-ndjson")

    assert (result.status_code, result.text) == (200, "")


def test_batch_bound(post: Post, recording: RecordingHub) -> None:
    """A batch above the bound is refused as a whole, naming the bound and the first line beyond it."""
    result = post(b'{"topic":"a","data":1}\n' * 4, "application/x-ndjson")

    assert result.status_code == 413
    assert (result.json["limit"], result.json["value"], result.json["line"]) == ("max_batch_events", 3, 4)
    assert recording.published == []
