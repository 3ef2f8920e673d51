"""The end of each stream is a line of the log."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from falcon.testing import TestClient

from tests.servers import Server, running_service

TOKEN = "0123456789abcdef0123456789abcdef"


def ends(server: Server, count: int, *, after: int = 0) -> list[dict[str, Any]]:
    """Wait for so many ends in the log of a server, and return all there are."""
    return [json.loads(line) for line in server.wait_for_logs('"stream ended"', count, after=after)]


def wait_for_streams(server: Server, count: int) -> None:
    deadline = time.monotonic() + 60
    while f'sse_kit_streams{{namespace="default"}} {count}.0' not in server.request("GET", "/metrics").body.decode():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_end_of_a_stream_is_logged(server: Server) -> None:
    """One line says how long a stream was open, what it got, why it ended, and which request it was."""
    server.publish("a", "before")
    reader = server.reader("/events?topic=a&last_event_id=0-0", headers={"X-Request-ID": "a-request-of-ours"})
    with reader:
        server.publish("a", "x" * 1000)
        reader.read(2)
        assert reader.headers["x-request-id"] == "a-request-of-ours"
    (end,) = ends(server, 1)

    assert (end["request_id"], end["reason"], end["namespace"]) == ("a-request-of-ours", "client", "default")
    assert (end["events"], end["subject"], end["level"]) == (2, None, "info")
    assert end["bytes"] > 1000
    assert end["seconds"] >= 0


def test_a_stop_is_told_of_each_stream() -> None:
    """Streams that end because the server stops are logged before it has, with who they were."""
    with running_service(tokens={"ann": TOKEN}, drain_seconds=0.1) as server:
        readers = [server.reader("/events?topic=a", headers={"Authorization": f"Bearer {TOKEN}"}) for _ in range(3)]
        wait_for_streams(server, 3)
        server.stop()
        for reader in readers:
            reader.close()

    found = ends(server, 3)
    assert {end["reason"] for end in found} <= {"drained", "closed", "client"}
    assert {end["subject"] for end in found} == {"ann"}
    assert len({end["request_id"] for end in found}) == 3


def test_ends_need_not_be_logged() -> None:
    """Switched off, nothing is kept of a stream for its end."""
    with running_service(log_streams=False) as server:
        with server.reader("/events?topic=a"):
            wait_for_streams(server, 1)
        wait_for_streams(server, 0)
        server.stop()

    assert not [line for line in server.log if "stream ended" in line]


def test_a_request_that_is_no_stream_has_no_such_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """What is answered at once is nginx's to log."""
    client.simulate_get("/events?topic=log/none")
    client.simulate_get("/healthz")

    assert caplog.records == []
