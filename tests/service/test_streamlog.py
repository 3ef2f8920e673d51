"""The end of each stream is a line of the log."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from sse_core.testing import StreamReader
from tests.nginx_server import Nginx
from tests.redisserver import redis_server
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
    after = len(server.log)
    server.publish("a", "before")
    reader = server.reader("/events?topic=a&last_event_id=0-0", headers={"X-Request-ID": "a-request-of-ours"})
    with reader:
        server.publish("a", "x" * 1000)
        reader.read(2)
        assert reader.headers["x-request-id"] == "a-request-of-ours"
    (end,) = ends(server, 1, after=after)

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


def test_nginx_and_the_service_name_a_request_alike(server: Server) -> None:
    """The line of nginx's log for a stream and the service's own have the same id, which the client was told too."""
    after = len(server.log)
    with Nginx(server.url) as nginx:
        with StreamReader(("127.0.0.1", nginx.port), "/events?topic=shared", timeout=60) as reader:
            server.publish("shared", "x")
            reader.read(1)
        (end,) = ends(server, 1, after=after)
        deadline = time.monotonic() + 60
        # nginx writes its line when it has noticed the end.
        while not (lines := [line for line in nginx.access_log.read_text().splitlines() if "topic=shared" in line]):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    assert json.loads(lines[0])["request_id"] == end["request_id"] == reader.headers["x-request-id"]


def test_a_drain_shows_in_the_metrics(tmp_path: Path) -> None:
    """While a worker sends its streams away, the metrics of its server say so, and in whose name."""
    with (
        redis_server(tmp_path) as redis,
        running_service(workers=2, backplane=redis.url, drain_seconds=50, graceful_timeout=90) as server,
    ):
        before = wait_for_workers(server, "both are there", lambda found: len(found) == 2)
        with server.reader("/events?topic=a") as reader:
            server.publish("a", "x")
            reader.read(1)
            os.kill(server.pid, signal.SIGHUP)
            wait_for_workers(server, "one drains", lambda found: any(each == (1, 1) for each in found.values()))
        # A stop that reaches a worker before it has its handlers would be lost on it.
        wait_for_workers(server, "both are new", lambda found: len(found) == 2 and not found.keys() & before.keys())
        reasons = {end["reason"] for end in ends(server, 1)}

    assert reasons <= {"client", "drained"}


Workers = dict[str, tuple[float, float]]


def wait_for_workers(server: Server, what: str, condition: Callable[[Workers], bool]) -> Workers:
    """Wait until the workers, each with whether it drains and its streams, are such."""
    deadline = time.monotonic() + 120
    while True:
        values: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(metrics(server)):
            for sample in family.samples:
                values.setdefault(sample.labels.get("worker", ""), {})[sample.name] = sample.value
        found = {name: (each["sse_kit_draining"], each["sse_kit_streams"]) for name, each in values.items()}
        if condition(found):
            return found
        assert time.monotonic() < deadline, (what, found)
        time.sleep(0.05)


def metrics(server: Server) -> str:
    """What a worker tells; empty while it is about to go."""
    try:
        return server.request("GET", "/metrics").body.decode()
    except (OSError, HTTPException):
        return ""


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
