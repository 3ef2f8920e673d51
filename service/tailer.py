"""Follows one log file and publishes its lines, whatever the number of viewers and of workers.

1. A line is published once and whole: ``line`` events on the topic ``log/{name}``, data ``{"line": ..., "ts": ...}``.
   What is a line, over rotations and truncations, is the affair of `logreader`.
2. Of several workers one publishes: the holder of the lease ``tail/{name}``, whose note says how far. The others look each
   second whether it still lives, and go on from the note. What the dead one had published and not noted is published again
   under the same keys, and so once. The rule that makes this right: publish first, then note, and never note what was not
   published.
3. A full mailbox is waited for; the file keeps what has not been read yet. So nothing is skipped.
4. Wake-ups come from the folder's changes (inotify by watchfiles) and, in any case, four times a second: a link into another
   folder or a network file system tells inotify nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
import watchfiles

from sse_core import BackplaneError, BusyError, Event, Hub, HubClosedError, LimitError

from .logreader import LogReader
from .settings import Settings
from .topics import LOG_PREFIX

BATCH_EVENTS = 500  # Lines in one publish_many; a chunk of empty lines would otherwise be one batch of 65,536.
LOOK_MILLISECONDS = 250  # The longest time between two looks; each costs a few microseconds.
# watchfiles looks for news each step and reports them when a step brought no more, or after the debounce.
STEP_MILLISECONDS = 50
DEBOUNCE_MILLISECONDS = 200
START_SECONDS = 1.0  # How long the first viewer waits for the file's last lines.
TROUBLE_SECONDS = 1.0  # The pause after an error that is not about the file.
LEASE_SECONDS = 5.0  # A holder that says nothing for so long is replaced.
RENEW_SECONDS = 1.25  # A few times within that, so that one late renewal does not cost the lease.
STANDBY_SECONDS = 1.0  # How often the others look whether the holder still lives.

_log = structlog.get_logger("sse_kit.tailer")


class _LeaseLostError(Exception):
    """Another worker publishes this log now."""


class Tailer:
    """A source (see `topics`) that publishes the lines of ``path``."""

    def __init__(self, name: str, path: Path, hub: Hub, settings: Settings) -> None:
        self.name = name
        #: What was read, and its counters, which its own thread writes.
        self.reader = LogReader(name, path, settings)
        #: Whether this process is the one that publishes.
        self.is_holder = False
        self._path = path
        self._topic = LOG_PREFIX + name
        self._hub = hub
        self._lease = hub.lease(f"tail/{name}", seconds=LEASE_SECONDS)
        self._joins_processes = settings.joins_processes
        self._note: str | None = None
        self._renew_at = 0.0
        self._lapses_at = 0.0
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start following. The last lines are published when this returns, unless that takes over a second."""
        self._stop.clear()
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name=f"tail-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait(START_SECONDS)

    def close(self) -> None:
        """Stop following, let another worker go on, and wait for the end of the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        # The watcher's native thread inherits this: a signal that the kernel gave to it would be seen late by gunicorn.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._is_over():
                try:
                    if self.is_holder or self._take():
                        self._follow()
                        self._ready.set()
                        for _ in self._wakeups():
                            self._follow()
                    else:
                        self._ready.set()
                        self._stop.wait(STANDBY_SECONDS)
                except HubClosedError:
                    return
                except _LeaseLostError:
                    self._let_go()
                except BackplaneError as error:
                    self._let_go()
                    self._stop.wait(error.retry_after)
                except Exception:
                    _log.exception("log not followed; trying again", log=self.name)
                    self._stop.wait(TROUBLE_SECONDS)
        finally:
            if self.is_holder:
                # One that cannot be given back now runs out by itself.
                with contextlib.suppress(BackplaneError, HubClosedError):
                    self._lease.release()
            self._let_go()

    def _is_over(self) -> bool:
        # A worker that drains hands the log over while its viewers go; alone, it is theirs until they are gone.
        return self._stop.is_set() or (self._joins_processes and self._hub.draining)

    def _wakeups(self) -> Iterator[None]:
        """Yield whenever it is worth to look; end when the folder was replaced, inotify gave up or it is over."""
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
                if _identity(folder) != identity or self._is_over():
                    return
        except (OSError, RuntimeError) as error:
            # No such folder yet, or no inotify left for this user: look by the clock until it works.
            _log.debug("no wake-ups from the folder", log=self.name, reason=str(error))
            if not self._stop.wait(LOOK_MILLISECONDS / 1000):
                yield

    def _follow(self) -> None:
        """Publish all that is there to read, and note it."""
        self._renew()
        for events in self.reader.batches():
            items = [(self._topic, event) for event in events]
            for start in range(0, len(items), BATCH_EVENTS):
                if not self._publish(items[start : start + BATCH_EVENTS]):
                    return
            self._take_note()
        self._take_note()

    def _publish(self, items: list[tuple[str, Event]]) -> bool:
        """Publish a batch, whatever that takes. False if it is to be left to whoever comes next."""
        while not self._stop.is_set():
            try:
                self._renew()
                self._hub.publish_many(items)
                return True
            except BackplaneError as error:
                # Nobody knows whether it was published: again, under the same keys, if the log is still ours then.
                self._lapses_at = 0.0
                self._stop.wait(error.retry_after)
            except BusyError as error:
                self._stop.wait(error.retry_after)
            except LimitError as error:
                _log.warning("log waits for room in the hub", log=self.name, reason=str(error))
                self._stop.wait(TROUBLE_SECONDS)
        return False

    # ---- the lease ----

    def _take(self) -> bool:
        """Become the one who publishes, if nobody is, and begin where the last one was."""
        if not self._hold(None):
            return False
        self.reader.begin(self._lease.note)
        self._note = self._lease.note
        self.is_holder = True
        return True

    def _renew(self) -> None:
        """Stay the one who publishes. Raises `_LeaseLostError`, and `BackplaneError` if that is not known."""
        now = time.monotonic()
        if now < min(self._renew_at, self._lapses_at):
            return
        # After a lapse another one may have held it and moved the note on: ours must not replace it.
        note = self._note if now < self._lapses_at else None
        if not self._hold(note) or self._lease.note != self._note:
            raise _LeaseLostError

    def _take_note(self) -> None:
        note = self.reader.note
        if note == self._note:
            return
        self._renew()
        if not self._hold(note) or self._lease.note != note:
            raise _LeaseLostError
        self._note = note

    def _hold(self, note: str | None) -> bool:
        # From before the call: the server's clock for the lease starts later.
        now = time.monotonic()
        if not self._lease.hold(note):
            return False
        self._renew_at = now + RENEW_SECONDS
        self._lapses_at = now + LEASE_SECONDS
        return True

    def _let_go(self) -> None:
        self.is_holder = False
        self.reader.close()


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
