"""A log by its path, across rotations and restarts: what is there to publish, and how far that is, as a note.

1. The path is looked at again with each look. If it names another file, the old one is read to its end first and then for
   ``log_linger`` seconds more, since its writer goes on with it until told to reopen.
2. A file that was truncated is read from its start again, and an event ``truncated`` says so: lines may be missing there.
   The same is said when a file that was not read to its end cannot be found any more, or when the path seems to have named
   yet another one while nobody looked.
3. A note names every file that is being read, and how far. Whoever resumes from it publishes the same lines under the same
   keys. So a note may be older than what was published, and must never be newer.
4. The generation of a file is part of its lines' keys, and is noted before its first line is published: two readers that
   resume from the same note count alike.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from sse_core import Event

from .loglines import Line, OpenLog, Place, TruncatedError
from .settings import Settings

_log = structlog.get_logger("sse_kit.tailer")


class LogReader:
    """Reads one log. Not thread-safe; the counters may be read from anywhere."""

    def __init__(self, name: str, path: Path, settings: Settings) -> None:
        self.name = name
        self.lines = 0
        self.cut_lines = 0
        self.rotations = 0
        self.truncations = 0
        self._path = path
        # A key costs memory of the backplane's, and one process alone never publishes a line twice.
        self._has_keys = settings.joins_processes
        self._initial_lines = settings.log_initial_lines
        self._max_line_bytes = settings.max_log_line_bytes
        self._catch_up_bytes = settings.log_catch_up_bytes
        self._linger = settings.log_linger
        self._current: OpenLog | None = None
        self._retired: list[tuple[float, OpenLog]] = []  # when to give it up, and the renamed file
        self._looked = False  # whether the path was looked at since the beginning: what appears later is all new
        self._generation = 0
        self._waiting: list[Event] = []  # what resuming has to say
        self._trouble: str | None = None

    @property
    def note(self) -> str:
        """What `begin` takes to go on here: the places of all files, that of the path's own last."""
        # No file has the inode 0: at the path there was nothing yet, so that whatever comes is all new.
        last = Place(self._generation, 0, 0, 0, 0, 0) if self._current is None else self._current.place
        return " ".join(":".join(map(str, place)) for place in (*(log.place for _, log in self._retired), last))

    def begin(self, note: str | None) -> None:
        """Begin at a note, or at the path's last lines for None and for what is no note."""
        self.close()
        places = _places(note)
        self._looked = bool(places)
        # At random: nobody who publishes can guess the keys of lines, and so keep them from being published.
        self._generation = max((place.generation for place in places), default=secrets.randbits(48))
        for place in places[:-1]:
            log = self._resume(place)
            if log is not None:
                self._retired.append((time.monotonic() + self._linger, log))
        if places and places[-1].inode:
            self._current = self._resume(places[-1])
            if self._current is not None and self._was_skipped(self._current):
                self._generation += 1
                self._waiting.append(self._truncated(self._generation, None))

    def batches(self) -> Iterator[list[Event]]:
        """Yield all that is there to publish now, in the order it was written; after each one, `note` covers it.

        One that is empty asks for nothing but that `note` is taken down.
        """
        if self._waiting:
            yield self._waiting
            self._waiting = []
        for _, log in self._retired:
            yield from self._drain(log)
        if self._current is None:
            yield from self._open()
        elif self._current.is_at(self._path) is False:
            # To the end of the old one before the first line of the new one.
            yield from self._drain(self._current)
            self._retired.append((time.monotonic() + self._linger, self._current))
            self._current = None
            self.rotations += 1
            yield from self._open()
        self._looked = True
        if self._current is not None:
            yield from self._drain(self._current)
        yield from self._give_up_retired()

    def close(self) -> None:
        """Close all files."""
        for log in [log for _, log in self._retired] + ([self._current] if self._current else []):
            log.close()
        self._retired.clear()
        self._waiting.clear()
        self._current = None

    # ---- beginning ----

    def _resume(self, place: Place) -> OpenLog | None:
        """Open a file where a note left it, and tell what of it is lost."""
        log = self._find(place)
        if log is None or log.generation != place.generation:
            # Gone with its rest, if it had one; or truncated.
            self._generation += 1
            self.truncations += log is not None
            self._waiting.append(self._truncated(self._generation, None))
        if log is None:
            return None
        if log.generation != place.generation:
            log.generation = self._generation
        unread = log.unread_bytes()
        if unread > self._catch_up_bytes:
            log.skip_to_last(self._initial_lines)
            data = {"bytes": unread - log.unread_bytes(), "ts": _now()}
            self._waiting.append(self._keyed("skipped", data, f"{log.generation}:skipped:{place.start}"))
        return log

    def _find(self, place: Place) -> OpenLog | None:
        """Open the file of a place, wherever in its folder a rotation has put it; None if it is not there any more."""
        for path in (self._path, *_siblings(self._path)):
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) != (place.device, place.inode):
                    continue
                log = OpenLog(path, self._max_line_bytes)
            except OSError:
                continue
            if log.resume(place):
                return log
            if path == self._path:
                # Truncated, or another file that was given the number of ours: from its start in either case.
                log.restart()
                log.generation = place.generation + 1
                return log
            log.close()
        return None

    def _was_skipped(self, log: OpenLog) -> bool:
        """Whether the path has named a file between this one and its present one, of which nothing was read.

        Which file that was cannot be told for sure, and a wrong one must not be published.
        """
        if log.is_at(self._path) is not False:
            return False
        known = {each.place[1:3] for each in (log, *(log for _, log in self._retired))}
        for path in _siblings(self._path):
            with contextlib.suppress(OSError):
                status = os.stat(path)
                if (status.st_dev, status.st_ino) not in known and status.st_mtime_ns > log.modified_ns():
                    return True
        return False

    # ---- reading ----

    def _open(self) -> Iterator[list[Event]]:
        """Open what the path names now, if anything: at its last lines the first time, at its start later."""
        try:
            log = OpenLog(self._path, self._max_line_bytes, self._generation + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.warning("log cannot be read", log=self.name, reason=self._trouble)
            return
        self._trouble = None
        self._generation += 1
        if not self._looked:
            log.skip_to_last(self._initial_lines)
        self._current = log
        yield []

    def _drain(self, log: OpenLog) -> Iterator[list[Event]]:
        while True:
            try:
                lines = log.read()
            except TruncatedError:
                self.truncations += 1
                log.generation = self._generation
                unfinished = log.restart()
                self._generation = log.generation
                yield [self._truncated(log.generation, unfinished)]
                continue
            if lines is None:
                return
            # As a whole: the place of the file is behind all of them already.
            yield [self._line(log, line) for line in lines]

    def _give_up_retired(self) -> Iterator[list[Event]]:
        now = time.monotonic()
        for entry in [entry for entry in self._retired if entry[0] <= now]:
            log = entry[1]
            rest = log.rest()
            if rest is not None:
                # Its line end can no longer come: this is the line.
                yield [self._line(log, rest)]
            self._retired.remove(entry)
            log.close()
            yield []

    # ---- events ----

    def _line(self, log: OpenLog, line: Line) -> Event:
        self.lines += 1
        if line.cut:
            self.cut_lines += 1
        return self._keyed("line", {"line": _marked(line), "ts": _now()}, f"{log.generation}:{line.start}")

    def _truncated(self, generation: int, unfinished: Line | None) -> Event:
        data = {"ts": _now()} if unfinished is None else {"unfinished": _marked(unfinished), "ts": _now()}
        return self._keyed("truncated", data, f"{generation}:truncated")

    def _keyed(self, event: str, data: Mapping[str, object], key: str) -> Event:
        return Event(msgspec.json.encode(data), event=event, id=f"log/{self.name}:{key}" if self._has_keys else None)


def _places(note: str | None) -> list[Place]:
    """What a note says; nothing for what is none, as that of another release may be."""
    try:
        return [Place(*map(int, text.split(":"))) for text in (note or "").split()]
    except (TypeError, ValueError):
        return []


def _siblings(path: Path) -> list[Path]:
    """The files that may once have had the name ``path``: theirs begin with it, and they are in the same folder."""
    found = []
    # A link's own folder, and that of the file behind it.
    for each in dict.fromkeys((path, Path(os.path.realpath(path)))):
        try:
            found += [Path(entry.path) for entry in os.scandir(each.parent) if entry.name.startswith(each.name)]
        except OSError:
            continue
    return [each for each in found if each != path]


def _marked(line: Line) -> str:
    return f"{line.text} … [{line.cut} bytes cut]" if line.cut else line.text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
