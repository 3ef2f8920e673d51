from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sse_core import BusyError, Event, EventParser, Hub, HubClosedError, LimitError, Receipt
from sse_kit.settings import Settings
from sse_kit.tailer import Tailer
from tests.servers import TIMEOUT, running_service


class FakeHub(Hub):
    """Keeps what is published, in batches; raises the ``errors`` first, one a call."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.batches: list[list[Event]] = []
        self.refused = 0
        self.changed = threading.Condition()

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        items = list(items)
        assert {topic for topic, _ in items} == {"log/test"}
        with self.changed:
            if self.errors:
                self.refused += 1
                self.changed.notify_all()
                raise self.errors.pop(0)
            self.batches.append([event for _, event in items])
            self.changed.notify_all()
        return []

    @property
    def events(self) -> list[tuple[str | None, dict[str, Any]]]:
        """Name and data of every event."""
        return [(event.event, json.loads(event.data or "")) for batch in self.batches for event in batch]

    @property
    def lines(self) -> list[str]:
        """The text of every line."""
        return [data["line"] for name, data in self.events if name == "line"]

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT), self.events

    def wait_for_lines(self, *lines: str) -> None:
        """Wait until exactly these lines have come."""
        self.wait_for(lambda: len(self.lines) >= len(lines))
        assert self.lines == list(lines)


@pytest.fixture
def hub() -> FakeHub:
    """A hub that nobody listens to."""
    return FakeHub()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is, or will be."""
    return tmp_path / "log"


Tail = Callable[..., Tailer]


@pytest.fixture
def tail(hub: FakeHub, path: Path) -> Iterator[Tail]:
    """Start a tailer of ``path`` with the given settings."""
    started: list[Tailer] = []

    def start(path: Path = path, **settings: Any) -> Tailer:
        tailer = Tailer("test", path, hub, Settings(**settings))
        started.append(tailer)
        tailer.start()
        return tailer

    yield start
    for tailer in started:
        tailer.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_last_lines_come_first(hub: FakeHub, path: Path, tail: Tail) -> None:
    """The first viewer finds the last lines published when its stream begins."""
    path.write_bytes(b"one\ntwo\nthree\n")
    tail(log_initial_lines=2)

    assert hub.lines == ["two", "three"]


def test_lines_as_they_come(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A line comes when it is whole, with the time it was read."""
    path.write_bytes(b"")
    tail()
    append(path, b"one\ntw")
    hub.wait_for_lines("one")
    append(path, b"o\n")
    hub.wait_for_lines("one", "two")

    for name, data in hub.events:
        assert name == "line"
        assert data.keys() == {"line", "ts"}
        assert data["ts"].endswith("Z")


def test_file_that_is_not_there_yet(hub: FakeHub, tmp_path: Path, tail: Tail) -> None:
    """A log whose folder does not even exist yet is read from its first line once it is there."""
    folder = tmp_path / "later"
    tail(folder / "log", log_initial_lines=0)
    folder.mkdir()
    append(folder / "log", b"one\n")

    hub.wait_for_lines("one")


def test_rotation_by_rename(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A renamed log is read to its end, then the one in its place, and what is still written to the old one too."""
    path.write_bytes(b"")
    tailer = tail()
    old = path.with_suffix(".1")
    append(path, b"old 1\n")
    hub.wait_for_lines("old 1")
    path.rename(old)
    append(old, b"old 2\n")
    append(path, b"new 1\n")
    hub.wait_for_lines("old 1", "old 2", "new 1")
    append(old, b"old 3\n")
    hub.wait_for_lines("old 1", "old 2", "new 1", "old 3")

    assert tailer.reader.rotations == 1


def test_unfinished_line_of_a_rotated_log(hub: FakeHub, path: Path, tail: Tail) -> None:
    """The last line of a log that was rotated away is shown although its end never came."""
    path.write_bytes(b"")
    tail(log_linger=0.01)
    append(path, b"one\nunfinished")
    hub.wait_for_lines("one")
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"")

    hub.wait_for_lines("one", "unfinished")


def test_renamed_and_never_replaced(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A log that was renamed goes on until there is another one in its place."""
    path.write_bytes(b"")
    tail()
    append(path, b"one\n")
    hub.wait_for_lines("one")
    path.rename(path.with_suffix(".1"))
    append(path.with_suffix(".1"), b"two\n")

    hub.wait_for_lines("one", "two")


def test_truncation(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A truncated log is read from its start again, and an event says that lines may be missing."""
    path.write_bytes(b"")
    tailer = tail()
    append(path, b"one\nunfi")
    hub.wait_for_lines("one")
    os.truncate(path, 0)
    hub.wait_for(lambda: len(hub.events) == 2)
    append(path, b"two\n")
    hub.wait_for_lines("one", "two")

    name, data = hub.events[1]
    assert (name, data["unfinished"]) == ("truncated", "unfi")
    assert tailer.reader.truncations == 1


def test_long_lines_and_bad_bytes(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A long line is cut where it can be seen and counted; bytes that are no UTF-8 are replaced."""
    path.write_bytes(b"")
    tailer = tail(max_log_line_bytes=64)
    append(path, b"x" * 100 + b"\n\xff\x00\n")

    hub.wait_for_lines("x" * 64 + " … [36 bytes cut]", "\ufffd\x00")
    assert (tailer.reader.lines, tailer.reader.cut_lines) == (2, 1)


def test_longest_line_of_control_characters_fits(path: Path, tail: Tail) -> None:
    """No line that is within its bound is too large to be published."""
    path.write_bytes(b"\x01" * 100_000 + b"\n")
    with Hub() as hub:
        tailer = Tailer("test", path, hub, Settings(max_log_line_bytes=43_000))
        tailer.start()
        tailer.close()
        parser = EventParser()
        stream = hub.subscribe("log/test", last_event_id="0-0")
        event = next(event for chunk in stream for event in parser.feed(chunk))
        stream.close()

    assert json.loads(event.data or "")["line"] == "\x01" * 43_000 + " … [57000 bytes cut]"


def test_batches(hub: FakeHub, path: Path, tail: Tail) -> None:
    """Lines that come together are published together, in bounded batches."""
    path.write_bytes(b"\n" * 2000)
    tail(log_initial_lines=2000)
    hub.wait_for(lambda: len(hub.lines) == 2000)

    assert {len(batch) for batch in hub.batches} == {500}


def test_full_mailbox(hub: FakeHub, path: Path, tail: Tail) -> None:
    """A hub that is full is waited for: no line is lost, doubled or out of order."""
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1200)))
    hub.errors = [BusyError(0.01), LimitError("max_topics", 1), BusyError(0.01)]
    tail(log_initial_lines=1200)

    hub.wait_for(lambda: len(hub.lines) >= 1200)
    assert hub.lines == [str(number) for number in range(1200)]
    assert hub.refused == 3


def test_unexpected_errors(hub: FakeHub, path: Path, tail: Tail, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody expected is logged and does not end the tail."""
    path.write_bytes(b"the one that meets the error\n")
    hub.errors = [ZeroDivisionError()]
    tail()
    hub.wait_for(lambda: hub.refused)
    append(path, b"next\n")

    hub.wait_for_lines("next")
    assert [record.levelname for record in caplog.records if record.name == "sse_kit.duty"] == ["ERROR"]


def test_closed_hub(hub: FakeHub, path: Path, tail: Tail) -> None:
    """The tail ends with its hub."""
    path.write_bytes(b"one\n")
    hub.errors = [HubClosedError("closed")]
    thread = tail()._duty._thread
    assert thread is not None
    thread.join(TIMEOUT)

    assert not thread.is_alive()


def test_unreadable(hub: FakeHub, tmp_path: Path, tail: Tail, caplog: pytest.LogCaptureFixture) -> None:
    """A path that is no file is logged once, and a file that takes its place is followed."""
    path = tmp_path / "log"
    path.mkdir()
    tail(path)
    path.rmdir()
    append(path, b"one\n")

    hub.wait_for_lines("one")
    assert [record.levelname for record in caplog.records if record.name == "sse_kit.tailer"] == ["WARNING"]


def test_link_into_another_folder(hub: FakeHub, tmp_path: Path, tail: Tail) -> None:
    """A log behind a link, of whose writes its folder knows nothing, is followed too."""
    target = tmp_path / "elsewhere" / "log"
    target.parent.mkdir()
    target.write_bytes(b"")
    (tmp_path / "log").symlink_to(target)
    tail(tmp_path / "log")
    append(target, b"one\n")

    hub.wait_for_lines("one")


class Writer:
    """Writes numbered lines to a log and rotates it now and then, on a thread of its own, as a logging process does."""

    def __init__(self, path: Path, lines: int, rotate: Callable[[Path, int], None]) -> None:
        self._path = path
        self._lines = lines
        self._rotate = rotate
        self._thread = threading.Thread(target=self._run)
        self.seen = threading.Semaphore(0)

    def _run(self) -> None:
        file = self._path.open("ab", buffering=0)
        for number in range(self._lines):
            if number % 500 == 499:
                # Bounded by the reader, or a file would be gone before it was ever looked at.
                assert self.seen.acquire(timeout=TIMEOUT)
                self._rotate(self._path, number)
                if not self._path.exists():
                    # As a process that is told to reopen: a few lines later than the rename.
                    file.write(b"%d late\n" % number)
                    new = self._path.open("ab", buffering=0)
                    file.close()
                    file = new
            file.write(b"%d\n" % number)
        file.close()

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


def rename(path: Path, number: int) -> None:
    path.rename(path.with_name(f"log.{number}"))


def truncate(path: Path, number: int) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [rename, truncate])
def test_rotation_under_writes(path: Path, rotate: Callable[[Path, int], None]) -> None:
    """While a log is written and rotated, a viewer gets each line once and in order."""
    path.write_bytes(b"")
    lines = 3000
    with running_service(logs={"test": str(path)}) as server, server.reader("/logs/test") as reader:
        seen: list[str] = []
        names: list[str | None] = []
        with Writer(path, lines, rotate) as writer:
            while not seen or seen[-1] != str(lines - 1):
                (event,) = reader.read()
                names.append(event.event)
                if event.event != "line":
                    continue
                seen.append(json.loads(event.data or "")["line"])
                # All that was written before the writer waits: it may rotate now.
                if int(seen[-1].split()[0]) % 500 == 498:
                    writer.seen.release()
        metrics = server.request("GET", "/metrics").body.decode()

    assert [line for line in seen if "late" not in line] == [str(number) for number in range(lines)]
    if rotate is rename:
        assert [line for line in seen if "late" in line] == [f"{number} late" for number in range(499, lines, 500)]
        assert 'sse_kit_log_rotations_total{log="test"} 6.0' in metrics
    else:
        assert names.count("truncated") == 6
        assert 'sse_kit_log_truncations_total{log="test"} 6.0' in metrics


def test_one_tailer_for_all_viewers(path: Path) -> None:
    """However many viewers a log has, each line is published once, and all get it; a late one finds the history."""
    path.write_bytes(b"one\n")
    with running_service(logs={"test": str(path)}) as server:
        readers = [server.reader("/logs/test?last_event_id=0-0") for _ in range(3)]
        readers.append(server.reader("/events?topic=log/test&topic=a&last_event_id=0-0"))
        append(path, b"two\n")
        seen = [[(event.id, json.loads(event.data or "")["line"]) for event in reader.read(2)] for reader in readers]
        for reader in readers:
            reader.close()

    assert [line for _, line in seen[0]] == ["one", "two"]
    assert all(each == seen[0] for each in seen)
