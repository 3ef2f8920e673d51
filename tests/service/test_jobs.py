"""`POST /jobs`: checksum and lines of a file, with progress, from upload to end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from sse_core import Event, EventParser, Hub
from sse_core.testing import StreamReader
from sse_kit.settings import Settings
from tests.application import app_of
from tests.open_files import open_files
from tests.redisserver import RedisServer, redis_server
from tests.servers import Server, running_service

OCTETS = {"Content-Type": "application/octet-stream"}
NOISE = random.Random(4).randbytes(3_000_000)
# At this pace a job of `SLOW` bytes would take a quarter of an hour, and tells its progress ten times a second.
PACE = 1000
SLOW = b"line\n" * 200_000


def listen(hub: Hub, topic: str, *, until: str | None = None) -> list[Event]:
    """The events of a topic, to its end or to the first one of a name."""
    parser, events = EventParser(), list[Event]()
    stream = hub.subscribe(topic)
    for chunk in stream:
        events += parser.feed(chunk)
        if any(event.event == until for event in events):
            break
    stream.close()
    return events


def data(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.data or "")
    return found


def run_job(hub: Hub, body: bytes, settings: Settings | None = None) -> list[Event]:
    """All events of one job."""
    # The client leaves the length of nothing out.
    headers = {**OCTETS, "Content-Length": str(len(body))}
    answer = TestClient(app_of(hub, settings)).simulate_post("/jobs?name=a.txt", body=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return listen(hub, f"run/{answer.json['run']}")


class TestResult:
    """What is counted."""

    @pytest.mark.parametrize(
        ("body", "lines"),
        [
            (b"", 0),
            (b"a", 1),
            (b"a\n", 1),
            (b"a\nb", 2),
            (b"\n\n", 2),
            (b"a\r\nb\rc\n", 2),
            (b"\n" * 262_144 + b"x", 262_145),
            (NOISE, NOISE.count(b"\n") + 1),
        ],
        ids=["empty", "unended", "ended", "two", "blank", "carriage-returns", "chunk-and-byte", "large"],
    )
    def test_checksum_and_lines(self, hub: Hub, body: bytes, lines: int) -> None:
        """A line ends with LF and with nothing else; what follows the last one is one more."""
        done = run_job(hub, body)[-1]

        assert done.event == "done"
        assert data(done) == {
            "reason": "finished",
            "sha256": hashlib.sha256(body).hexdigest(),
            "lines": lines,
            "bytes": len(body),
            "name": "a.txt",
        }

    def test_like_the_tools(self, hub: Hub, tmp_path: Path) -> None:
        """For a file whose last line is ended it is what sha256sum and wc -l say."""
        (tmp_path / "a").write_bytes(NOISE + b"\n")
        checksum, lines = (
            subprocess.run([*command, tmp_path / "a"], capture_output=True, text=True, check=True).stdout.split()[0]
            for command in (["sha256sum"], ["wc", "-l"])
        )
        found = data(run_job(hub, NOISE + b"\n")[-1])

        assert (found["sha256"], found["lines"]) == (checksum, int(lines))


class TestProgress:
    """What is told on the way."""

    def test_from_nothing_to_all(self, hub: Hub) -> None:
        """Progress is told in bytes of the whole, begins at none, only grows, and ends at all."""
        *progress, done = run_job(hub, NOISE)
        told = [data(event) for event in progress]

        assert {event.event for event in progress} == {"progress"}
        assert {(each["total"], each["unit"], each["description"]) for each in told} == {(len(NOISE), "B", "a.txt")}
        numbers = [each["n"] for each in told]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, len(NOISE))
        assert done.event == "done"

    def test_an_empty_file(self, hub: Hub) -> None:
        """Of nothing there is nothing to tell but that it is all."""
        progress, done = run_job(hub, b"")

        assert (data(progress)["n"], data(progress)["total"]) == (0, 0)
        assert done.event == "done"

    def test_at_a_pace(self, hub: Hub) -> None:
        """With a pace a job takes as long as that says, in steps that can be seen."""
        *progress, done = run_job(hub, b"x" * 3000, Settings(job_bytes_per_second=10_000))
        told = [data(event) for event in progress]

        assert len(told) > 2
        assert told[-1]["elapsed"] >= 0.2
        assert done.event == "done"


class TestRefused:
    """A job that cannot begin."""

    @pytest.fixture
    def hub(self) -> Iterator[Hub]:
        """A hub with one producer at most."""
        with Hub(max_producers=1) as hub:
            yield hub

    def test_too_many_producers(self, hub: Hub, tmp_path: Path) -> None:
        """Where the hub runs all that it may, the file is given up, and the sender may come again."""
        client = TestClient(app_of(hub, Settings(job_folder=tmp_path, job_bytes_per_second=PACE)))
        first = client.simulate_post("/jobs?name=a", body=SLOW, headers=OCTETS)
        second = client.simulate_post("/jobs?name=b", body=SLOW, headers=OCTETS)

        assert (first.status_code, second.status_code) == (202, 503)
        assert (second.json["limit"], second.json["value"]) == ("max_producers", 1)
        assert "Retry-After" in second.headers
        assert len(open_files(tmp_path)) == 1


def upload(server: Server, name: str = "a.txt") -> dict[str, str]:
    """Start a job that nobody waits for the end of."""
    answer = server.request("POST", f"/jobs?name={name}", SLOW, OCTETS)
    assert (answer.status, answer.headers["location"]) == (202, answer.json()["events"])
    found: dict[str, str] = answer.json()
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service whose jobs take long."""
    with running_service(job_bytes_per_second=PACE) as server:
        yield server


class TestOverHTTP:
    """The life of a job, as a page sees it."""

    def test_resumed_and_cancelled(self, server: Server) -> None:
        """A page that is loaded again goes on with the progress where it was; once cancelled a job is over for good."""
        job = upload(server)
        with server.reader(job["events"]) as reader:
            seen = [data(event)["n"] for event in reader.read(2)]
            last = reader.last_event_id
        with server.reader(job["events"], last_event_id=last) as resumed:
            seen += [data(event)["n"] for event in resumed.read(2)]
            stopped = server.request("POST", job["stop"])
            end = resumed.read_to_end()[-1]
            last = resumed.last_event_id
        after = StreamReader(server.socket_path, job["events"], last_event_id=last)
        after.close()

        assert seen == sorted(set(seen))
        assert (stopped.status, stopped.json()) == (200, {"stopped": True})
        assert (end.event, data(end)) == ("done", {"reason": "stopped"})
        assert after.status == 204
        assert server.request("POST", job["stop"]).json() == {"stopped": False}

    def test_a_fresh_page(self, server: Server) -> None:
        """A page that knows only the run gets the progress from its beginning."""
        job = upload(server)
        with server.reader(job["events"]) as reader:
            first = reader.read(2)
        with server.reader(job["events"]) as reader:
            again = reader.read(2)
        server.request("POST", job["stop"])

        assert [event.id for event in again] == [event.id for event in first]
        assert data(again[0])["n"] == 0

    def test_the_stream_as_the_answer(self, server: Server) -> None:
        """Who prefers a stream gets that of the job as the answer to its upload."""
        with StreamReader(
            server.socket_path,
            "/jobs?name=a",
            method="POST",
            headers={**OCTETS, "Content-Length": "0", "Accept": "text/event-stream"},
        ) as reader:
            events = reader.read_to_end()

        assert [event.event for event in events] == ["progress", "done"]
        assert data(events[-1])["lines"] == 0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


def test_a_killed_worker(redis: RedisServer, tmp_path: Path) -> None:
    """The job of a worker that is killed ends for a listener at another one, who is told so; nothing of the file is left."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    settings = {"backplane": redis.unix_url, "job_bytes_per_second": PACE, "job_folder": str(folder)}
    with running_service(**settings) as owner, running_service(**settings) as other:
        job = upload(owner)
        with other.reader(job["events"]) as reader:
            assert data(reader.read()[0])["n"] == 0
            os.kill(owner.worker_pid, signal.SIGKILL)
            # By itself it would run out some seconds later.
            (lease,) = redis.client().keys(f"*:lease:*{job['run']}")
            redis.client().delete(lease)
            end = reader.read_to_end()[-1]
        left = list(folder.iterdir())

    assert (end.event, data(end)["reason"]) == ("failed", "interrupted")
    assert left == []
