"""What takes longer: a process with another clock, as on another host, and workers that are really replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loadtest.runs import LENIENT, PATIENCE, ROOT
from tests.loadtest.small_server import TEMPLATES, small_server
from tests.ports import free_port

pytestmark = pytest.mark.soak


def has_time_namespaces() -> bool:
    """Whether this machine lets us start a process whose monotonic clock is another one."""
    try:
        return subprocess.run(["unshare", "-T", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not has_time_namespaces(), reason="time namespaces need root and util-linux")
def test_a_clock_that_is_off_is_estimated_and_told(tmp_path: Path) -> None:
    """A worker whose clock is 5,000 s ahead measures latencies as all others do, and the report says how sure that is."""
    port = str(free_port())
    program = [sys.executable, "-m", "loadtest", "steady"]
    worker = [*program, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    with small_server() as server:
        master = [*program, "--master", "--master-bind-port", port, "--expect-workers", "2", "--host", server.url]
        master += [*TEMPLATES, *LENIENT, "-u", "6", "--events", "60", "--out", str(tmp_path)]
        commands = [master, ["unshare", "-T", "--monotonic", "5000", *worker], worker]
        processes = [
            subprocess.Popen(each, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for each in commands
        ]
        try:
            printed = [each.communicate(timeout=PATIENCE)[0] for each in processes]
        finally:
            for each in processes:
                each.kill()
                each.wait()

    assert [each.returncode for each in processes] == [0, 0, 0], printed
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["clock"]["text"].startswith("Clocks: 1 of 2 processes")
    assert 0 < data["clock"]["uncertainty_ms"] < 1_000_000
    # Off by 5,000 s these would be all zero, or five million.
    assert data["times_ms"]["delivery"]["count"] == 360
    assert data["times_ms"]["delivery"]["max"] < 1_000_000


def test_nobody_loses_an_event_while_workers_are_replaced(tmp_path: Path) -> None:
    """The short matrix starts a kit on Redis, has its workers replaced, and every stream comes back to all it missed."""
    command = [sys.executable, "-m", "loadtest.matrix", "rolling", "--out", str(tmp_path), *LENIENT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nobody lost an event" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "rolling/plot.svg").exists()
