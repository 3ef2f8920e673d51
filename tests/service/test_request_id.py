"""Request ids: taken from who is in front, or made; in the answer and in the log."""

from __future__ import annotations

import re

import pytest
from falcon.testing import TestClient

HEX = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize("given", ["0f" * 16, "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "trace_1.a-b", "a" * 64])
def test_a_well_formed_id_is_kept(client: TestClient, given: str) -> None:
    """What nginx or a gateway calls a request, we call it too, whatever it is asked for and however that ends."""
    for path, status in (("/healthz", 200), ("/nowhere", 404), ("/events", 400), ("/events?topic=log/none", 404)):
        result = client.simulate_head(path, headers={"X-Request-ID": given})
        assert (result.status_code, result.headers["x-request-id"]) == (status, given)


@pytest.mark.parametrize(
    "given", [None, "", "short", "a" * 65, "a b c d e f", "../../etc", "id\x1b[2Jxxxx", "-" * 20, "é" * 9]
)
def test_any_other_id_is_replaced(client: TestClient, given: str | None) -> None:
    """A request without an id, or with one that could do harm in a log, gets one of ours, a new one each time."""
    headers = {} if given is None else {"X-Request-ID": given}
    ids = [client.simulate_get("/healthz", headers=headers).headers["x-request-id"] for _ in range(2)]

    assert all(HEX.fullmatch(each) for each in ids)
    assert ids[0] != ids[1]


def test_what_is_logged_on_the_way_names_the_request(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """A line of the log that is written while a request is answered has its id, and not that of the one before."""
    for request_id in ("first-request", "second-request"):
        # A hub in memory refuses a server of several processes, which this client claims to be: that is logged.
        client.simulate_get("/events?topic=a", headers={"X-Request-ID": request_id})
    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]

    assert [event["request_id"] for event in events] == ["first-request", "second-request"]
