"""``POST /publish``: any body is published whole or refused with a problem document, and never an error of the server's."""

from __future__ import annotations

import json
from functools import cache

from falcon.testing import Result, TestClient

from sse_core import Hub
from sse_kit.settings import Settings
from tests.application import app_of

from .choices import Choices

TYPES = ("application/json", "application/x-ndjson")


@cache
def _client() -> TestClient:
    return TestClient(app_of(Hub(max_topics=1_000_000), Settings(max_body_bytes=4096, max_batch_events=8)))


def run(data: bytes) -> None:
    """Send a body, and the same once more: what was accepted is accepted again."""
    choices = Choices(data)
    kind = TYPES[choices.number(2)]
    body = choices.take(choices.left)
    first = _post(kind, body)
    again = _post(kind, body)
    assert (first.status_code == 200) == (again.status_code == 200), body
    if first.status_code == 200:
        receipts = [json.loads(line) for line in first.text.splitlines()]
        assert all(set(receipt) == {"id", "duplicate"} for receipt in receipts), body
        assert len(receipts) == 1 or (kind == TYPES[1] and len(receipts) <= body.count(b"\n") + 1), body
    else:
        assert 400 <= first.status_code < 500, (first.status_code, body)
        assert first.headers["content-type"] == "application/problem+json", body
        problem = json.loads(first.text)
        assert problem["status"] == first.status_code, body


def _post(kind: str, body: bytes) -> Result:
    return _client().simulate_post("/publish", body=body, headers={"Content-Type": kind})
