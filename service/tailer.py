"""Follows one log file and publishes its lines, whatever the number of viewers and of workers.

1. A line is published once and whole: ``line`` events on the topic ``log/{name}``, data ``{"line": ..., "ts": ...}``.
   What is a line, over rotations and truncations, is the affair of `logreader`.
2. Of several workers one publishes: it is a `Duty`, whose note says how far. A line's place in its file is its key.
3. A full mailbox is waited for; the file keeps what has not been read yet. So nothing is skipped.
4. Wake-ups come from the folder's changes (inotify by watchfiles) and, in any case, four times a second: a link into another
   folder or a network file system tells inotify nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import structlog
import watchfiles

from sse_core import Hub

from .duty import Duty
from .logreader import LogReader
from .settings import Settings
from .topics import LOG_PREFIX

BATCH_EVENTS = 500  # Lines in one publish_many; a chunk of empty lines would otherwise be one batch of 65,536.
LOOK_MILLISECONDS = 250  # The longest time between two looks; each costs a few microseconds.
# watchfiles looks for news each step and reports them when a step brought no more, or after the debounce.
STEP_MILLISECONDS = 50
DEBOUNCE_MILLISECONDS = 200

_log = structlog.get_logger("sse_kit.tailer")


class Tailer:
    """A source (see `topics`) that publishes the lines of ``path``."""

    def __init__(self, name: str, path: Path, hub: Hub, settings: Settings) -> None:
        self.name = name
        #: What was read, and its counters, which its own thread writes.
        self.reader = LogReader(name, path, settings)
        self._path = path
        self._topic = LOG_PREFIX + name
        self._duty = Duty(
            f"tail/{name}",
            hub,
            begin=self.reader.begin,
            work=self._work,
            end=self.reader.close,
            joins_processes=settings.joins_processes,
        )

    @property
    def is_holder(self) -> bool:
        """Whether this process is the one that publishes."""
        return self._duty.is_holder

    def start(self) -> None:
        """Start following. The last lines are published when this returns, unless that takes over a second."""
        self._duty.start()

    def close(self) -> None:
        """Stop following, let another worker go on, and wait for the end of the thread."""
        self._duty.close()

    def _work(self) -> None:
        self._follow()
        self._duty.ready()
        for _ in self._wakeups():
            self._follow()

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
                stop_event=self._duty.stopped,
                raise_interrupt=False,
            ):
                yield
                if _identity(folder) != identity or self._duty.is_over():
                    return
        except (OSError, RuntimeError) as error:
            # No such folder yet, or no inotify left for this user: look by the clock until it works.
            _log.debug("no wake-ups from the folder", log=self.name, reason=str(error))
            if not self._duty.stopped.wait(LOOK_MILLISECONDS / 1000):
                yield

    def _follow(self) -> None:
        """Publish all that is there to read, and note it."""
        self._duty.renew()
        for events in self.reader.batches():
            items = [(self._topic, event) for event in events]
            for start in range(0, len(items), BATCH_EVENTS):
                if not self._duty.publish(items[start : start + BATCH_EVENTS]):
                    return
            self._duty.note(self.reader.note)
        self._duty.note(self.reader.note)


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
