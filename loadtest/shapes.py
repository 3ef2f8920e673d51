"""Shapes of load: how many streams there are when. A scenario whose file imports one has it; see locust's manual on shapes.

``--users`` is the most streams there are at a time. Publishers are always all there.
"""

from __future__ import annotations

import math
from typing import Any

from locust import LoadTestShape


class _Streams(LoadTestShape):
    abstract = True
    use_common_options = True

    def _options(self) -> Any:
        assert self.runner is not None
        return self.runner.environment.parsed_options

    def _elapsed(self) -> float:
        """Seconds since publishing began: until then nothing may change, or the start would never be over."""
        if not getattr(self.runner and self.runner.environment, "sse_is_publishing", False):
            self.reset_time()  # type: ignore[no-untyped-call]
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        return elapsed

    def _users(self, share: float) -> tuple[int, float]:
        options = self._options()
        publishers = int(options.publishers)
        # Publishers were added to the users when the run began.
        streams = max(int(options.num_users) - publishers, 1)
        return publishers + max(round(streams * share), 1), float(options.spawn_rate or streams)


class Tide(_Streams):
    """Streams come and go: from all of them down to three quarters and back, once a minute."""

    SECONDS = 60.0
    LEAST = 0.75

    def tick(self) -> tuple[int, float]:
        """Return how many users there are now, and how many a second come or go."""
        turn = math.cos(2 * math.pi * self._elapsed() / self.SECONDS)
        return self._users(self.LEAST + (1 - self.LEAST) * (1 + turn) / 2)


class Stairs(_Streams):
    """A tenth of the streams more every ten seconds: where does latency begin to rise?"""

    SECONDS = 10.0
    STEPS = 10

    def tick(self) -> tuple[int, float]:
        """Return how many users there are now, and how many a second come."""
        step = int(self._elapsed() / self.SECONDS) + 1
        return self._users(min(step, self.STEPS) / self.STEPS)
