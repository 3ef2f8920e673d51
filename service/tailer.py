"""Follows one log file and publishes its lines, whatever the number of viewers.

1. A line is published once and whole: ``line`` events on the topic ``log/{name}``, data ``{"line": ..., "ts": ...}``.
2. The path is looked at again at each wake-up. If it names another file, the old one is read to its end first and then for
   `log_linger` seconds more, since its writer goes on with it until told to reopen.
3. A file that was truncated is read from its start again, and an event ``truncated`` says so: lines may be missing there.
4. A full mailbox is waited for; the file keeps what has not been read yet. So nothing is skipped.
5. Wake-ups come from the folder's changes (inotify by watchfiles) and, in any case, four times a second: a link into another
   folder or a network file system tells inotify nothing.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog
import watchfiles

from sse_core import BusyError, Event, Hub, HubClosedError, LimitError

from .loglines import Line, OpenLog, TruncatedError
from .settings import Settings
from .topics import LOG_PREFIX

BATCH_EVENTS = 500  # Lines in one publish_many; a chunk of empty lines would otherwise be one batch of 65,536.
LOOK_MILLISECONDS = 250  # The longest time between two looks; each costs a few microseconds.
# watchfiles looks for news each step and reports them when a step brought no more, or after the debounce.
STEP_MILLISECONDS = 50
DEBOUNCE_MILLISECONDS = 200
START_SECONDS = 1.0  # How long the first viewer waits for the file's last lines.
TROUBLE_SECONDS = 1.0  # The pause after an error that is not about the file.

_log = structlog.get_logger("sse_kit.tailer")


class Tailer:
    """A source (see `topics`) that publishes the lines of ``path``. The counters are its own thread's to write."""

    def __init__(self, name: str, path: Path, hub: Hub, settings: Settings) -> None:
        self.name = name
        self.lines = 0
        self.cut_lines = 0
        self.rotations = 0
        self.truncations = 0
        self._path = path
        self._topic = LOG_PREFIX + name
        self._hub = hub
        self._initial_lines = settings.log_initial_lines
        self._max_line_bytes = settings.max_log_line_bytes
        self._linger = settings.log_linger
        self._current: OpenLog | None = None
        self._retired: list[tuple[float, OpenLog]] = []  # when to give it up, and the renamed file
        self._looked = False  # whether the path was looked at since the start: what appears later is all new
        self._trouble: str | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start following. The last lines are published when this returns, unless that takes over a second."""
        self._stop.clear()
        self._ready.clear()
        self._looked = False
        self._thread = threading.Thread(target=self._run, name=f"tail-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait(START_SECONDS)

    def close(self) -> None:
        """Stop following and wait for the end of the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        # The watcher's native thread inherits this: a signal that the kernel gave to it would be seen late by gunicorn.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._stop.is_set():
                try:
                    self._follow()
                    self._ready.set()
                    for _ in self._wakeups():
                        self._follow()
                except HubClosedError:
                    return
                except Exception:
                    _log.exception("log not followed; trying again", log=self.name)
                    self._stop.wait(TROUBLE_SECONDS)
        finally:
            self._close_files()

    def _wakeups(self) -> Iterator[None]:
        """Yield whenever it is worth to look; end when the folder was replaced or inotify gave up."""
        folder = self._path.parent
        try:
            identity = _identity(folder)
            for _ in watchfiles.watch(
                folder,
                # With what a rotated file is named: its writer may not have left it yet.
                watch_filter=lambda _change, path: path.startswith(str(self._path)),
                debounce=DEBOUNCE_MILLISECONDS,
                step=STEP_MILLISECONDS,
                rust_timeout=LOOK_MILLISECONDS,
                yield_on_timeout=True,
                recursive=False,
                stop_event=self._stop,
                raise_interrupt=False,
            ):
                yield
                if _identity(folder) != identity:
                    return
        except (OSError, RuntimeError) as error:
            # No such folder yet, or no inotify left for this user: look by the clock until it works.
            _log.debug("no wake-ups from the folder", log=self.name, reason=str(error))
            if not self._stop.wait(LOOK_MILLISECONDS / 1000):
                yield

    def _follow(self) -> None:
        """Publish all that is there to read, in the order it was written."""
        for _, log in self._retired:
            self._drain(log)
        if self._current is None:
            self._open()
        elif self._current.is_at(self._path) is False:
            # To the end of the old one before the first line of the new one.
            self._drain(self._current)
            self._retired.append((time.monotonic() + self._linger, self._current))
            self._current = None
            self.rotations += 1
            self._open()
        self._looked = True
        if self._current is not None:
            self._drain(self._current)
        self._give_up_retired()

    def _open(self) -> None:
        """Open what the path names now, if anything: at its last lines the first time, at its start later."""
        try:
            log = OpenLog(self._path, self._max_line_bytes)
        except FileNotFoundError:
            return
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.warning("log cannot be read", log=self.name, reason=self._trouble)
            return
        self._trouble = None
        if not self._looked:
            log.skip_to_last(self._initial_lines)
        self._current = log

    def _drain(self, log: OpenLog) -> None:
        while not self._stop.is_set():
            try:
                lines = log.read()
            except TruncatedError:
                self.truncations += 1
                self._publish([self._truncated(log.restart())])
                continue
            if lines is None:
                return
            self._publish(self._event(line) for line in lines)

    def _give_up_retired(self) -> None:
        now = time.monotonic()
        for entry in [entry for entry in self._retired if entry[0] <= now]:
            self._retired.remove(entry)
            rest = entry[1].rest()
            entry[1].close()
            if rest is not None:
                # Its line end can no longer come: this is the line.
                self._publish([self._event(rest)])

    def _event(self, line: Line) -> Event:
        self.lines += 1
        if line.cut:
            self.cut_lines += 1
        return Event(msgspec.json.encode({"line": _marked(line), "ts": _now()}), event="line")

    def _truncated(self, unfinished: Line | None) -> Event:
        data = {"ts": _now()} if unfinished is None else {"unfinished": _marked(unfinished), "ts": _now()}
        return Event(msgspec.json.encode(data), event="truncated")

    def _publish(self, events: Iterable[Event]) -> None:
        items = [(self._topic, event) for event in events]
        for start in range(0, len(items), BATCH_EVENTS):
            self._publish_batch(items[start : start + BATCH_EVENTS])

    def _publish_batch(self, items: list[tuple[str, Event]]) -> None:
        while not self._stop.is_set():
            try:
                self._hub.publish_many(items)
                return
            except BusyError as error:
                self._stop.wait(error.retry_after)
            except LimitError as error:
                _log.warning("log waits for room in the hub", log=self.name, reason=str(error))
                self._stop.wait(TROUBLE_SECONDS)

    def _close_files(self) -> None:
        for log in [log for _, log in self._retired] + ([self._current] if self._current else []):
            log.close()
        self._retired.clear()
        self._current = None


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _marked(line: Line) -> str:
    return f"{line.text} … [{line.cut} bytes cut]" if line.cut else line.text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
