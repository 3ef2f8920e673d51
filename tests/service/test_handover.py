"""A log's lines while the worker that publishes them is killed, stopped and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from sse_core.testing import StreamReader
from tests.redisserver import RedisServer, redis_server, wait_until
from tests.servers import TIMEOUT, Server, running_service

# Enough for a viewer to come back to, however slow the machine is.
HISTORY = {"history_events": 1_000_000, "history_bytes": 1 << 28}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sse-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def redis(folder: Path) -> Iterator[RedisServer]:
    with redis_server(folder) as server:
        yield server


@pytest.fixture
def path(folder: Path) -> Path:
    path = folder / "log"
    path.write_bytes(b"")
    return path


@contextmanager
def services(redis: RedisServer, path: Path, count: int) -> Iterator[list[Server]]:
    """Some services with a worker each, which show the same log and are ready."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(
                running_service(
                    backplane=redis.url,
                    logs={"test": str(path)},
                    # From the first line on, whenever the first viewer is there.
                    log_initial_lines=1_000_000,
                    topics={"log/*": HISTORY},
                    retry=50,
                    drain_seconds=0.2,
                )
            )
            for _ in range(count)
        ]
        for server in found:
            wait_until(lambda server=server: server.request("GET", "/readyz").status == 200, "it is ready")  # type: ignore[misc]
        yield found


class Writer:
    """Writes numbered lines to a log, and rotates it from time to time, until it is left."""

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self._path = path
        self._enough = threading.Event()
        self._rotate = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def rotate(self) -> None:
        """Rename the log at the next line, and go on with a new one."""
        self._rotate.set()

    def _run(self) -> None:
        while not self._enough.wait(0.002):
            if self._rotate.is_set():
                self._rotate.clear()
                self._path.rename(self._path.with_name(f"log.{self.lines}"))
            with self._path.open("a") as file:
                file.write(f"{self.lines}\n")
            self.lines += 1

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(TIMEOUT)


class Viewer:
    """A client of one service's log, which comes back with its last id whenever it is cut off."""

    def __init__(self, server: Server, last_event_id: str | None = None) -> None:
        self.seen: list[str] = []
        self.others: list[str | None] = []
        self._server = server
        self._last_event_id = last_event_id
        self._changed = threading.Condition()
        self._over = False
        self._reader: StreamReader | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over:
            try:
                with self._server.reader("/logs/test", last_event_id=self._last_event_id) as reader:
                    self._reader = reader
                    for event in reader:
                        self._receive(event.event, event.data or "")
                        self._last_event_id = event.id
                    self._last_event_id = reader.last_event_id or self._last_event_id
            except (OSError, RuntimeError, TimeoutError):
                threading.Event().wait(0.05)

    def _receive(self, name: str | None, data: str) -> None:
        with self._changed:
            if name == "line":
                self.seen.append(json.loads(data)["line"])
            else:
                self.others.append(name)
            self._changed.notify_all()

    def wait_for(self, lines: int) -> None:
        """Wait until so many lines have come."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self.seen) >= lines, TIMEOUT)
        assert found, (lines, len(self.seen), self.seen[-3:], self.others)

    def __enter__(self) -> Viewer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._reader is not None:
            # Wakes the thread up, which closes it.
            with suppress(OSError):
                self._reader.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)


def holder_of(servers: list[Server]) -> Server:
    """Wait until exactly one of them publishes the log, and return it."""

    def holders() -> list[Server]:
        return [
            server
            for server in servers
            if b'sse_kit_log_held{log="test"} 1.0' in server.request("GET", "/metrics").body
        ]

    return wait_until(lambda: holders() if len(holders()) == 1 else [], "one holds the log")[0]


def test_killed_again_and_again(redis: RedisServer, path: Path) -> None:
    """However often the publishing worker is killed, rotations in between: every viewer gets each line once, in order."""
    with (
        services(redis, path, 2) as servers,
        Viewer(servers[0], "0-0") as one,
        Viewer(servers[1], "0-0") as other,
        Writer(path) as writer,
    ):
        holder = holder_of(servers)
        for _ in range(4):
            one.wait_for(writer.lines)
            writer.rotate()
            before = len(holder.log)
            os.kill(holder.worker_pid, signal.SIGKILL)
            holder.wait_for_log("Booting worker", after=before)
            holder = holder_of(servers)
        writer.__exit__()
        one.wait_for(writer.lines)
        other.wait_for(writer.lines)

    expected = [str(number) for number in range(writer.lines)]
    assert one.seen == expected
    assert other.seen == expected
    assert one.others + other.others == []


def test_stopped(redis: RedisServer, path: Path) -> None:
    """A service that stops hands the log on at once: its neighbour's viewers get each line once."""
    with services(redis, path, 2) as servers, ExitStack() as stack:
        viewers = {server.url: stack.enter_context(Viewer(server, "0-0")) for server in servers}
        writer = stack.enter_context(Writer(path))
        holder = holder_of(servers)
        (heir,) = [server for server in servers if server is not holder]
        viewer = viewers[heir.url]
        viewer.wait_for(writer.lines)
        assert holder.stop() == 0
        assert holder_of([heir]) is heir
        writer.__exit__()
        viewer.wait_for(writer.lines)

    assert viewer.seen == [str(number) for number in range(writer.lines)]
    assert viewer.others == []


def test_started_again(redis: RedisServer, path: Path) -> None:
    """After a restart of all that is there the last lines do not come again, and what was written meanwhile does."""
    path.write_text("one\n")
    with services(redis, path, 1) as (server,):
        with server.reader("/logs/test?last_event_id=0-0") as reader:
            seen = reader.read()
            with path.open("a") as file:
                file.write("two\n")
            seen += reader.read()
        server.stop()
        with path.open("a") as file:
            file.write("three\n")
        server.start()
        wait_until(lambda: server.request("GET", "/readyz").status == 200, "it is ready")
        with server.reader("/logs/test?last_event_id=0-0") as reader:
            again = reader.read(3)
        with path.open("a") as file:
            file.write("four\n")
        with server.reader("/logs/test", last_event_id=again[-1].id) as reader:
            again += reader.read()
        assert not [line for line in server.log if "detected" in line]

    assert [json.loads(event.data or "")["line"] for event in again] == ["one", "two", "three", "four"]
    assert [event.id for event in again[:2]] == [event.id for event in seen]


def test_through_an_outage(redis: RedisServer, path: Path) -> None:
    """While Redis is away lines wait in the file; afterwards each comes once, in order."""
    with services(redis, path, 2) as servers, Viewer(servers[0], "0-0") as viewer, Writer(path) as writer:
        viewer.wait_for(1)
        redis.pause()
        wait_until(lambda: servers[0].request("GET", "/readyz").status == 503, "it is not ready")
        while_away = writer.lines
        redis.resume()
        wait_until(lambda: len(viewer.seen) > while_away, "lines come again")
        writer.__exit__()
        viewer.wait_for(writer.lines)

    assert viewer.seen == [str(number) for number in range(writer.lines)]
    assert viewer.others == []
