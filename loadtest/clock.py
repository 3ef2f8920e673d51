"""One time for all processes of a run: the master's monotonic clock.

Processes on one kernel read the same clock, and need nothing. Those of another host ask the master what time it is, again
and again, and believe the quickest answer: their offset is then uncertain by half of what that took, plus drift.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

#: How far two quartz clocks may run apart, seconds a second.
DRIFT = 50e-6
#: An older answer is not believed any more, seconds.
MEMORY = 60.0


def identity() -> str:
    """What two processes have in common that read the same monotonic clock: the boot, and the time namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    space = Path("/proc/self/ns/time")
    return f"{boot} {space.readlink() if space.is_symlink() else ''}"


class Clock:
    """The run's clock as this process knows it. Until it knows better, its own is the run's."""

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self.offset = 0.0
        #: Whether the master's is the very same clock.
        self.is_shared = True
        self._answers: deque[tuple[float, float, float]] = deque()

    def local(self) -> float:
        """Return this process's own clock, in seconds."""
        return self._read()

    def now(self) -> float:
        """Return the run's clock, in seconds."""
        return self._read() + self.offset

    @property
    def uncertainty(self) -> float:
        """By how many seconds `now` may be off; 0 where the clock is the master's own."""
        if self.is_shared:
            return 0.0
        if not self._answers:
            return float("inf")
        return min(self._doubt(answer) for answer in self._answers)

    def answered(self, asked: float, theirs: float, received: float) -> None:
        """Take the master's time ``theirs``, asked for and received at these times of this process's own clock."""
        self.is_shared = False
        self._answers.append((received, received - asked, theirs - (asked + received) / 2))
        while self._answers[0][0] < received - MEMORY:
            self._answers.popleft()
        self.offset = min(self._answers, key=self._doubt)[2]

    def _doubt(self, answer: tuple[float, float, float]) -> float:
        received, took, _ = answer
        return took / 2 + (self._read() - received) * DRIFT
