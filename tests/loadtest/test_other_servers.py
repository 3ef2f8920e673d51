"""Servers that are not ours: what they get wrong is found, and what they get right is no fault."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from loadtest.stamp import Stamp, encode, find
from tests.loadtest.runs import run
from tests.loadtest.small_server import TEMPLATES, small_server
from tests.ports import free_port
from tests.redisserver import redis_server

START_SECONDS = 60.0


class Faults:
    """Loses number 3, sends 5 twice, 8 before 7, 10 altered, and 12 as another topic's."""

    def __init__(self) -> None:
        self._kept = ""

    def __call__(self, data: str) -> list[str]:
        stamp = find(data)
        assert stamp is not None
        if stamp.is_mark:
            return [data]
        match stamp.number:
            case 3:
                return []
            case 5:
                return [data, data]
            case 7:
                self._kept = data
                return []
            case 8:
                return [data, self._kept]
            case 10:
                return [data.replace("--.", "-.")]
            case 12:
                return [data, encode(Stamp(stamp.run, stamp.source, "elsewhere", 1, stamp.microseconds))]
            case _:
                return [data]


def test_every_fault_of_a_server_is_found(tmp_path: Path) -> None:
    """What was lost, doubled, swapped, altered, misdelivered or refused is counted as what it is, and the run fails."""
    with small_server(Faults(), refusals=1) as server:
        done = run(tmp_path, "steady", server.url, *TEMPLATES, "-u", "2", "--events", "20", "--settle", "5")

    assert done.code == 1, done.printed
    kinds = ("lost", "duplicate", "disorder", "altered", "misdelivered", "wrong status")
    # Two streams; the altered one has not come as what it was.
    assert {kind: done.counts[kind] for kind in kinds} == dict(zip(kinds, (4, 2, 2, 2, 2, 1), strict=True))
    failed = {each["what"] for each in done.data["judgements"] if not each["holds"]}
    assert failed == set(kinds)
    assert "event 3" in done.printed
    assert "FAILED" in done.printed
    with (tmp_path / "failures.csv").open() as file:
        assert {row["failure"].partition(":")[0] for row in csv.DictReader(file)} == {*kinds}


def test_what_restarts_a_server_is_part_of_a_run(tmp_path: Path) -> None:
    """The command of the option is run in the middle; how long its streams were away is told, and what they lost by it."""
    with small_server() as server:
        program = f"import urllib.request as r; r.urlopen({server.url + '/cut'!r}, b'{{}}')"
        command = shlex.join([sys.executable, "-c", program])
        options = ("-u", "3", "--events", "60", "--disturb-after", "0.2", "--settle", "10", "--max-lost", "-1")
        done = run(tmp_path, "rolling", server.url, *TEMPLATES, *options, "--disturb-command", command)

    assert done.code == 0, done.printed
    assert done.counts["cut"] >= 3
    assert done.data["times_ms"]["reconnect"]["count"] >= 3
    assert "3 returns of 3 streams" in done.data["answer"]


def test_a_command_that_fails_fails_the_run(tmp_path: Path) -> None:
    """A restart that did not happen is no proof that restarts are survived."""
    with small_server() as server:
        options = (
            "-u",
            "1",
            "--events",
            "5",
            "--disturb-after",
            "0.1",
            "--disturb-command",
            "echo no such server >&2; false",
        )
        done = run(tmp_path, "rolling", server.url, *TEMPLATES, *options)

    assert done.code == 1, done.printed
    assert "no such server" in done.data["judgements"][0]["found"]


def test_a_run_without_a_server_fails(tmp_path: Path) -> None:
    """Where nobody listens nothing is measured, and that is no success, although nothing was lost."""
    nobody = f"http://127.0.0.1:{free_port()}"
    options = (
        "-u",
        "1",
        "-t",
        "1s",
        "--ready-timeout",
        "2",
        "--settle",
        "1",
        "--max-cut",
        "-1",
        "--max-publish-errors",
        "-1",
    )
    done = run(tmp_path, "steady", nobody, *options)

    assert done.code == 1, done.printed
    failed = {each["what"] for each in done.data["judgements"] if not each["holds"]}
    assert "something was measured" in failed


@contextmanager
def flask_sse_app(redis_url: str, log: Path) -> Iterator[str]:
    """An application of flask-sse as its documentation runs it: gunicorn with gevent, and Redis."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-k",
        "gevent",
        "--bind",
        f"127.0.0.1:{port}",
        "--graceful-timeout",
        "1",
    ]
    command += ["--no-control-socket", f"tests.contrib.small_app:create_app({redis_url!r})"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/nowhere")
        return connection.getresponse().status == 404
    except OSError:
        return False
    finally:
        connection.close()


def test_flask_sse_can_be_measured(tmp_path: Path) -> None:
    """The old stack of many: streams that do not say when they are subscribed, without ids, data wrapped in JSON."""
    templates = (
        "--subscribe-url",
        "/stream?channel={topic}",
        "--publish-body",
        '{"data": "{data}", "channel": "{topic}"}',
    )
    with redis_server(tmp_path) as redis, flask_sse_app(redis.url, tmp_path / "log") as url:
        done = run(tmp_path / "report", "steady", url, *templates, "-u", "5", "--events", "40")

    assert done.code == 0, done.printed
    assert (done.counts["published"], done.counts["delivered"], done.counts["lost"]) == (40, 200, 0)
