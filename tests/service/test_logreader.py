from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core import Event
from sse_kit.loglines import INITIAL_BYTES
from sse_kit.logreader import LogReader
from sse_kit.settings import Settings

JOINED = Settings(backplane="redis://nowhere.invalid", log_catch_up_bytes=INITIAL_BYTES)  # type: ignore[arg-type]


class Feed:
    """What was published, each key once, and the last note: what outlives a reader that dies."""

    def __init__(self, path: Path) -> None:
        self.note: str | None = None
        self.events: list[Event] = []
        self._keys: set[str | None] = set()
        self._path = path
        self._reader: LogReader | None = None

    def look(self, *, dies_after: int | None = None) -> None:
        """Publish what is there, batch by batch, each noted; or die after so many steps, published or noted."""
        if self._reader is None:
            self._reader = LogReader("test", self._path, JOINED)
            self._reader.begin(self.note)
        steps = 0
        for batch in self._reader.batches():
            for event in batch:
                if event.id not in self._keys:
                    self._keys.add(event.id)
                    self.events.append(event)
            steps += 1
            if steps == dies_after:
                return self.die()
            self.note = self._reader.note
            steps += 1
            if steps == dies_after:
                return self.die()
        self.note = self._reader.note
        return None

    def die(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def told(self) -> list[tuple[str | None, dict[str, Any]]]:
        return [(event.event, json.loads(event.data or "")) for event in self.events]

    @property
    def lines(self) -> list[str]:
        return [data["line"] for name, data in self.told if name == "line"]

    @property
    def names(self) -> list[str | None]:
        return [name for name, _ in self.told]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is, or will be."""
    return tmp_path / "log"


@pytest.fixture
def feed(path: Path) -> Iterator[Feed]:
    feed = Feed(path)
    yield feed
    feed.die()


def append(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("".join(line + "\n" for line in lines[:-1]) + lines[-1] + end)


def rotate(path: Path, number: int = 1) -> Path:
    return path.rename(path.with_name(f"{path.name}.{number}"))


def test_a_successor_goes_on(feed: Feed, path: Path) -> None:
    """Who takes over publishes what the note does not cover, and nothing of what it does."""
    append(path, "one", "two")
    feed.look()
    feed.die()
    append(path, "three")
    feed.look()

    assert feed.lines == ["one", "two", "three"]


def test_an_unfinished_line_is_read_again(feed: Feed, path: Path) -> None:
    """The note stands before a line that is not whole, so that the successor has all of it."""
    append(path, "one", "tw", end="")
    feed.look()
    feed.die()
    append(path, "o")
    feed.look()

    assert feed.lines == ["one", "two"]


def test_only_the_last_lines_without_a_note(path: Path) -> None:
    """Without a note, and with one that is none, a log begins with its last lines."""
    append(path, *map(str, range(500)))
    for note in (None, "", "nonsense", "1:2", "1:2:3:4:5:x"):
        reader = LogReader("test", path, JOINED)
        reader.begin(note)
        lines = [event for batch in reader.batches() for event in batch]
        reader.close()

        assert len(lines) == JOINED.log_initial_lines


def test_a_log_that_was_not_there_yet(feed: Feed, path: Path) -> None:
    """A note says that there was no file, so whatever appears later is all new."""
    feed.look()
    feed.die()
    append(path, *map(str, range(500)))
    feed.look()

    assert len(feed.lines) == 500


def test_rotation_while_nobody_looked(feed: Feed, path: Path) -> None:
    """A log that was rotated after the last look is read on where it is now, then the one in its place."""
    append(path, "one")
    feed.look()
    feed.die()
    append(path, "two")
    rotate(path)
    append(path, "three")
    feed.look()

    assert feed.lines == ["one", "two", "three"]
    assert feed.names == ["line"] * 3


def test_late_lines_of_a_rotated_log(feed: Feed, path: Path) -> None:
    """What its writer still writes to a rotated log reaches a successor, too."""
    append(path, "one")
    feed.look()
    old = rotate(path)
    append(path, "two")
    feed.look()
    feed.die()
    append(old, "late")
    feed.look()

    assert sorted(feed.lines) == ["late", "one", "two"]


def test_a_log_behind_a_link(tmp_path: Path) -> None:
    """A rotated log is found in the folder of the file behind a link."""
    path, link = tmp_path / "elsewhere" / "real.log", tmp_path / "log"
    path.parent.mkdir()
    append(path, "one")
    link.symlink_to(path)
    feed = Feed(link)
    feed.look()
    feed.die()
    append(path, "two")
    rotate(path)
    append(path, "three")
    feed.look()
    feed.die()

    assert feed.lines == ["one", "two", "three"]


def test_a_rotated_log_that_is_gone(feed: Feed, path: Path) -> None:
    """When the noted file is not there any more, lines may be missing, and that is told before the next ones."""
    append(path, "one")
    feed.look()
    feed.die()
    # Before it is removed: its number must not be given to the new one.
    old = rotate(path)
    append(path, "two")
    old.unlink()
    feed.look()

    assert feed.names == ["line", "truncated", "line"]
    assert feed.lines == ["one", "two"]


def test_two_rotations_while_nobody_looked(feed: Feed, path: Path) -> None:
    """A file that came and went in between is not guessed at: lines may be missing, and that is told."""
    append(path, "one")
    feed.look()
    feed.die()
    rotate(path, 2)
    append(path, "never read")
    rotate(path, 1)
    os.utime(path.with_name("log.2"), (1, 1))
    append(path, "three")
    feed.look()

    assert feed.names == ["line", "truncated", "line"]
    assert feed.lines == ["one", "three"]


def test_older_neighbours_are_no_gap(feed: Feed, path: Path) -> None:
    """Logs that were rotated before are left alone, and are no reason to warn."""
    append(path.with_name("log.2"), "old")
    os.utime(path.with_name("log.2"), (1, 1))
    append(path, "one")
    feed.look()
    feed.die()
    rotate(path)
    append(path, "two")
    feed.look()

    assert feed.names == ["line", "line"]


@pytest.mark.parametrize("rest", ["", "new and longer than what was there before\n"])
def test_truncation_while_nobody_looked(feed: Feed, path: Path, rest: str) -> None:
    """A file that does not hold what was read from it is read from its start, and that is told."""
    append(path, "one", "two")
    feed.look()
    feed.die()
    path.write_text(rest)
    feed.look()
    append(path, "three")
    feed.look()

    assert feed.names[:3] == ["line", "line", "truncated"]
    assert feed.lines == ["one", "two", *rest.splitlines(), "three"]


def test_the_same_lines_after_a_truncation(feed: Feed, path: Path) -> None:
    """Lines that look like those before a truncation, at the same place of the same file, are other lines."""
    for _ in range(3):
        append(path, "the same", "again")
        feed.look()
        os.truncate(path, 0)
        feed.look()

    assert feed.lines == ["the same", "again"] * 3


def test_catching_up_is_bounded(feed: Feed, path: Path) -> None:
    """Of a log that nobody had read for long the last lines are published, and how much was left out."""
    append(path, "one")
    feed.look()
    feed.die()
    many = [f"{number:09}" for number in range(INITIAL_BYTES // 10 + 100)]
    append(path, *many)
    feed.look()
    feed.die()
    feed.look()

    (skipped,) = [data for name, data in feed.told if name == "skipped"]
    assert feed.lines == ["one", *many[-JOINED.log_initial_lines :]]
    assert skipped["bytes"] == 10 * (len(many) - JOINED.log_initial_lines)


def test_keys_cannot_be_guessed(path: Path) -> None:
    """Two readers that begin without a note use other keys: nobody can publish them beforehand."""
    append(path, "one")
    keys: set[str | None] = set()
    for _ in range(2):
        reader = LogReader("test", path, JOINED)
        reader.begin(None)
        keys.update(event.id for batch in reader.batches() for event in batch)
        reader.close()

    assert len(keys) == 2
    assert None not in keys


def test_alone_there_are_no_keys(path: Path) -> None:
    """In memory nobody else publishes the same lines, so keys would only use up room."""
    append(path, "one")
    reader = LogReader("test", path, Settings())
    reader.begin(None)
    events = [event for batch in reader.batches() for event in batch]
    reader.close()

    assert [event.id for event in events] == [None]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(1, 700)),
            st.tuples(st.just("part"), st.just(0)),
            st.tuples(st.just("rotate"), st.just(0)),
            st.tuples(st.just("look"), st.one_of(st.none(), st.integers(1, 6))),
        ),
        max_size=20,
    )
)
def test_however_they_die(steps: list[tuple[str, int | None]]) -> None:
    """Readers that die at any point, between writes and rotations: each line is published once, and in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.touch()
        feed = Feed(path)
        feed.look()
        written: list[str] = []
        rotations = 0
        rest = ""
        looked = True
        for step, number in steps:
            if step == "write":
                assert number is not None
                lines = [str(len(written) + each) for each in range(number)]
                with path.open("a") as file:
                    file.write(rest + "".join(line + "\n" for line in lines))
                written += lines
                rest = ""
            elif step == "part" and not rest:
                # A line that comes in two pieces, the second with the next write.
                written.append("in two pieces")
                rest = "pieces\n"
                with path.open("a") as file:
                    file.write("in two ")
            elif step == "rotate" and looked and not rest:
                rotations += 1
                rotate(path, rotations)
                path.touch()
                looked = False
            elif step == "look":
                feed.look(dies_after=number)
                # One that died may not have come to the new file.
                looked = looked or number is None
        with path.open("a") as file:
            file.write(rest)
        feed.look()
        feed.look()
        feed.die()

    assert feed.lines == written
    assert set(feed.names) <= {"line"}
