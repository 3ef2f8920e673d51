from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.redisserver import redis_server, wait_until
from tests.servers import Server, running_service


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders go; deeper than a unix socket's address has room for."""
    top = Path(tempfile.mkdtemp(prefix="sse-"))
    folder = top / ("deep" * 30)
    folder.mkdir()
    yield folder
    shutil.rmtree(top)


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A service of three workers."""
    with redis_server(folder.parent) as redis:
        monkeypatch.setenv("TMPDIR", str(folder))
        with running_service(backplane=redis.url, workers=3, drain_seconds=0.2) as server:
            wait_until(lambda: len(scrape(server)["sse_kit_streams"]) == 3, "three workers")
            yield server


def scrape(server: Server) -> dict[str, dict[str, float]]:
    """The samples of one scrape: name -> worker -> value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(server.request("GET", "/metrics").body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels["worker"]] = sample.value
    return found


def test_every_scrape_has_all_workers(server: Server) -> None:
    """Whichever worker is asked, the metrics of all are there, each under its pid, and none is counted twice."""
    for number in range(12):
        server.publish("a", number)
    scrapes = [scrape(server) for _ in range(6)]

    pids = set(scrapes[0]["sse_kit_streams"])
    assert all(int(pid) in children(server.pid) for pid in pids)
    for each in scrapes:
        assert each["sse_kit_streams"].keys() == each["process_resident_memory_bytes"].keys() == pids
        assert each["sse_kit_backplane_up"] == dict.fromkeys(pids, 1)


def test_a_killed_worker_is_forgotten(server: Server) -> None:
    """A worker that died is in no scrape any more, and the one in its place is."""
    before = set(scrape(server)["sse_kit_streams"])
    victim = server.worker_pid
    os.kill(victim, signal.SIGKILL)

    def heirs() -> set[str]:
        now = set(scrape(server)["sse_kit_streams"])
        return now - before if str(victim) not in now and len(now) == 3 else set()

    assert len(wait_until(heirs, "another worker in its place")) == 1


def test_nothing_is_left_behind(server: Server, folder: Path) -> None:
    """The folder in which workers meet is removed with the service."""
    (meeting,) = folder.glob("sse-kit-*")
    assert meeting.stat().st_mode & 0o077 == 0
    assert server.stop() == 0

    assert not meeting.exists()


def test_a_stopped_worker_holds_up_no_scrape(server: Server) -> None:
    """A worker that does not answer is left out, and that is logged."""
    pids = set(scrape(server)["sse_kit_streams"])
    victim = server.worker_pid
    os.kill(victim, signal.SIGSTOP)
    try:
        seen = wait_until(lambda: set(scrape(server)["sse_kit_streams"]) != pids, "a scrape without it")
        server.wait_for_log("metrics of a worker are missing")
    finally:
        os.kill(victim, signal.SIGCONT)

    assert seen


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
