"""One log and several workers: who publishes, and who goes on after it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from sse_core import BackplaneError, Event, Hub, MemoryBackplane, Receipt
from sse_kit import duty as module
from sse_kit.logreader import LogReader
from sse_kit.settings import Settings
from sse_kit.tailer import Tailer
from tests.servers import TIMEOUT

SETTINGS = Settings(backplane="redis://nowhere.invalid")  # type: ignore[arg-type]


class Server:
    """What joins workers: events by key, and one lease. Its state may be looked at under `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.events: dict[str, Event] = {}
        self.owner: object = None
        self.note: str | None = None
        self.steps: list[str] = []
        self.publish_errors: list[Exception] = []
        self.hold_errors: list[Exception] = []

    @property
    def lines(self) -> list[str]:
        return [json.loads(event.data or "")["line"] for event in self.events.values() if event.event == "line"]

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT), (self.lines, self.steps)

    def wait_for_lines(self, *lines: str) -> None:
        self.wait_for(lambda: len(self.lines) >= len(lines))
        assert self.lines == list(lines)


class WorkerBackplane(MemoryBackplane):
    """The backplane of one worker, which asks the server for its lease."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        server = self.server
        with server.changed:
            if server.hold_errors:
                raise server.hold_errors.pop(0)
            if server.owner not in (None, self):
                return False, server.note
            if note is not None and (server.owner is self or server.note is None):
                if note != server.note:
                    server.steps.append("noted")
                server.note = note
            server.owner = self
            server.changed.notify_all()
            return True, server.note

    def release(self, lease: str) -> None:
        with self.server.changed:
            if self.server.owner is self:
                self.server.owner = None
                self.server.steps.append("released")
            self.server.changed.notify_all()


class WorkerHub(Hub):
    """The hub of one worker, which publishes on the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.own = WorkerBackplane(server)
        super().__init__(self.own)

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        server = self.server
        with server.changed:
            if server.publish_errors:
                raise server.publish_errors.pop(0)
            for _, event in items:
                assert event.id is not None
                server.events.setdefault(event.id, event)
            server.steps.append("published")
            server.changed.notify_all()
        return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server; the workers look at their lease often."""
    monkeypatch.setattr(module, "STANDBY_SECONDS", 0.02)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    return Server()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"")
    return path


Start = Callable[[], Tailer]


@pytest.fixture
def start(server: Server, path: Path) -> Iterator[Start]:
    """Start the tailer of one more worker."""
    started: list[Tailer] = []

    def start() -> Tailer:
        tailer = Tailer("test", path, WorkerHub(server), SETTINGS)
        started.append(tailer)
        tailer.start()
        return tailer

    yield start
    for tailer in started:
        tailer.close()


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(line + "\n" for line in lines))


def test_one_publishes(server: Server, path: Path, start: Start) -> None:
    """Of several workers one reads the log; the others wait."""
    first, second = start(), start()
    append(path, "one")
    server.wait_for_lines("one")

    assert (first.is_holder, second.is_holder) == (True, False)
    assert (first.reader.lines, second.reader.lines) == (1, 0)


def test_the_next_goes_on(server: Server, path: Path, start: Start) -> None:
    """One that stops lets another go on at once, exactly where it was."""
    first, second = start(), start()
    append(path, "one")
    server.wait_for_lines("one")
    first.close()
    append(path, "two")
    server.wait_for_lines("one", "two")

    assert second.is_holder
    assert second.reader.lines == 1


def test_publish_first_then_note(server: Server, path: Path, start: Start) -> None:
    """What is noted was published before; only a place where nothing was read yet is noted without."""
    start()
    server.steps.clear()
    append(path, "one")
    server.wait_for(lambda: "noted" in server.steps)

    assert server.steps[:2] == ["published", "noted"]


def test_a_successor_publishes_under_the_same_keys(server: Server, path: Path, start: Start) -> None:
    """What the dead one had published and not noted comes again under the same keys, and so once."""
    first = start()
    note = server.note
    append(path, "one", "two")
    server.wait_for(lambda: server.note != note)
    first.close()
    # As if it had died between publishing and noting.
    server.note = note
    second = start()
    append(path, "three")
    server.wait_for_lines("one", "two", "three")

    assert second.reader.lines == 3


def test_an_outage_on_publishing(server: Server, path: Path, start: Start) -> None:
    """While the backplane is away lines wait, and then come once and in order."""
    tailer = start()
    server.publish_errors = [BackplaneError(0.01, "away")] * 3
    append(path, "one")
    server.wait_for_lines("one")
    append(path, "two")
    server.wait_for_lines("one", "two")

    assert (server.publish_errors, tailer.reader.lines) == ([], 2)


def test_an_outage_on_renewing(server: Server, path: Path, start: Start) -> None:
    """One that cannot know whether the log is still its own lets it go, and begins again at its note."""
    start()
    append(path, "one")
    server.wait_for_lines("one")
    with server.changed:
        server.hold_errors = [BackplaneError(0.01, "away")] * 5
    server.wait_for(lambda: not server.hold_errors)
    append(path, "two")
    server.wait_for_lines("one", "two")


def test_one_that_was_replaced(server: Server, path: Path, start: Start) -> None:
    """One that finds another in its place stops at once, and leaves the other's note alone."""
    tailer = start()
    append(path, "one")
    server.wait_for_lines("one")
    with server.changed:
        server.owner, server.note = "another", "another's"
    wait_until(lambda: not tailer.is_holder)
    append(path, "two")
    tailer.close()

    assert (server.lines, server.owner, server.note) == (["one"], "another", "another's")


def test_one_that_was_asleep(server: Server, path: Path, start: Start) -> None:
    """One whose lease had lapsed goes on where another has been meanwhile, though that one is gone again."""
    tailer = start()
    append(path, "one")
    server.wait_for(lambda: server.lines == ["one"] and server.steps[-1] == "noted")
    with server.changed:
        # The log is another's for a moment, in which it publishes all there is, and dies.
        append(path, "by another")
        other = LogReader("test", path, SETTINGS)
        other.begin(server.note)
        for batch in other.batches():
            server.events.update({event.id: event for event in batch if event.id is not None})
        server.owner, server.note = None, other.note
        other.close()
        assert server.lines == ["one", "by another"]
    append(path, "three")
    server.wait_for_lines("one", "by another", "three")

    # It may be between two leases when the line comes.
    wait_until(lambda: tailer.is_holder)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what no condition variable tells."""
    waiting = threading.Event()
    for _ in range(round(TIMEOUT / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("waited in vain")


def test_a_draining_worker_hands_over(server: Server, path: Path, start: Start) -> None:
    """A worker that drains gives the log back, so that another one's viewers do not wait for it to end."""
    hub = WorkerHub(server)
    first = Tailer("test", path, hub, SETTINGS)
    first.start()
    second = start()
    hub.drain()
    wait_until(lambda: second.is_holder)
    append(path, "one")
    server.wait_for_lines("one")
    first.close()

    assert second.reader.lines == 1
