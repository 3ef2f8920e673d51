"""`ProgressMeter`, which says how far a job is, not more often than it is worth; `Progress`, a topic that tells it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from sse_core.errors import BackplaneError, BusyError, ConfigurationError, FailedError, SSEError, StoppedError
from sse_core.event import Event
from sse_core.producer import Run, done_event, failed_event

_log = logging.getLogger("sse_core.progress")

#: The name of its events.
PROGRESS = "progress"


class ProgressMeter:
    """Counts, and makes an event at most once in ``interval`` seconds, so that a fast loop does not flood anybody.

    ``total`` is how many there will be, in ``unit``; None if nobody knows. The data of an event:
    ``{"n", "total", "unit", "elapsed", "rate", "remaining", "description"}``, times in seconds, the rate in units a second;
    what is not known is null. For use in a generator: ``if event := meter.update(): yield event``. From one thread.
    """

    def __init__(
        self,
        total: float | None = None,
        *,
        unit: str = "it",
        interval: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if total is not None and total < 0:
            raise ConfigurationError("total: must not be negative")
        if interval < 0:
            raise ConfigurationError("interval: must not be negative")
        self.n: float = 0
        self.total = total
        self.unit = unit
        self.description: str | None = None
        self._interval = interval
        self._clock = clock
        self._began = clock()
        self._told_at: float | None = None
        self._told: tuple[object, ...] | None = None

    def update(self, n: float = 1) -> Event | None:
        """Count so many more; return the event to publish, or None if the one before is too young."""
        self.n += n
        return self.event()

    def event(self) -> Event | None:
        """The event for the state as it is, or None if the one before is too young."""
        if self._told_at is not None and self._clock() - self._told_at < self._interval:
            return None
        return self.last()

    def last(self) -> Event:
        """The event for the state as it is, whenever the one before was."""
        now = self._clock()
        self._told_at = now
        self._told = self._state()
        elapsed = now - self._began
        rate = self.n / elapsed if elapsed > 0 else None
        known = self.total is not None and rate
        return Event(
            {
                "n": self.n,
                "total": self.total,
                "unit": self.unit,
                "elapsed": round(elapsed, 3),
                "rate": rate and round(rate, 3),
                "remaining": round(max(0.0, (self.total or 0) - self.n) / (rate or 1), 3) if known else None,
                "description": self.description,
            },
            event=PROGRESS,
        )

    def untold(self) -> None:
        """The last event has not been published after all."""
        self._told = None

    @property
    def is_told(self) -> bool:
        """Whether the state is that of the last event."""
        return self._told == self._state()

    def _state(self) -> tuple[object, ...]:
        return self.n, self.total, self.description


class Progress:
    """A finite topic that tells how far a job is; made by `Hub.progress`. Thread-safe.

    A context manager: the topic ends with ``done``, or with ``failed`` if the block raises. What went wrong is not told;
    raise `FailedError` to say it. No work waits for a backplane that is away, or for slow clients: the next event says what
    this one would have. What came too soon after another event to be told is told some seconds later, if nothing else is
    until then.
    """

    def __init__(self, run: Run, meter: ProgressMeter) -> None:
        self._run = run
        self._meter = meter
        self._lock = threading.Lock()
        run.on_keep = self._catch_up

    @property
    def topic(self) -> str:
        """What to subscribe to."""
        return self._run.topic

    @property
    def run(self) -> str:
        """The name of the topic without the prefix of all runs."""
        return self._run.run

    @property
    def n(self) -> float:
        """How many there are so far."""
        return self._meter.n

    @property
    def total(self) -> float | None:
        """How many there will be; None if nobody knows."""
        return self._meter.total

    def update(self, n: float = 1) -> None:
        """Count so many more. Raises `StoppedError` once somebody has stopped it."""
        with self._lock:
            self._publish(self._meter.update(n))

    def set(self, n: float, *, total: float | None = None) -> None:
        """Say how many there are so far, and how many there will be if that is known now. Raises `StoppedError`."""
        with self._lock:
            self._meter.total = self._meter.total if total is None else total
            self._meter.n = n
            self._publish(self._meter.event())

    def describe(self, text: str | None) -> None:
        """Say in words what is being done. Raises `StoppedError`."""
        with self._lock:
            self._meter.description = text
            self._publish(self._meter.event())

    def _publish(self, event: Event | None) -> None:
        if not self._run.running:
            raise StoppedError(f"{self.topic} was stopped")
        if event is None:
            return
        try:
            self._run.publish(event, patience=0)
        except (BackplaneError, BusyError):
            self._meter.untold()

    def _catch_up(self) -> None:
        # Who has the lock is about to tell more, and may wait for that: other runs are looked after on this thread.
        if self._lock.acquire(blocking=False):
            try:
                if self._run.running and not self._meter.is_told:
                    # What cannot be told is its caller's to know, when it ends.
                    with suppress(SSEError):
                        self._publish(self._meter.event())
            finally:
                self._lock.release()

    def finish(self, **members: Any) -> None:
        """End the topic with ``done``; the members, JSON values, are added to its data. Further calls do nothing."""
        self._end(done_event(**members), failed=False)

    def fail(self, message: str, *, reason: str = "error", **members: Any) -> None:
        """End the topic with ``failed`` and a text that may be shown. Further calls do nothing."""
        self._end(failed_event(reason, message, **members), failed=True)

    def _end(self, event: Event, *, failed: bool) -> None:
        with self._lock:
            if not self._run.running:
                return
            try:
                if not self._meter.is_told:
                    # The last state, however young the one before is: a bar shall not stop short of its end.
                    self._run.publish(self._meter.last())
            except StoppedError:
                return
            except SSEError as error:
                # It shall end all the same.
                _log.warning("The last state of %s is not told: %s", self.topic, error)
            self._run.end(event, "failed" if failed else "finished")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
            elif isinstance(error, FailedError):
                self.fail(error.message, reason=error.reason, **error.members)
            else:
                self.fail("The job failed.")
        except SSEError:
            if error is None:
                raise
