"""Is it as good at the end as it was at the beginning?

Hours of steady events, to streams that come and go like a tide. What leaks, drifts or wears out shows as a latency that
grows: the last third of the run is compared with the first.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.shapes import Tide
from loadtest.stamp import Stamp
from loadtest.user import SSEUser

__all__ = ["Tide"]

THIRDS = ("first third", "second third", "last third")


class Listener(SSEUser):
    """A stream that the tide may take away."""

    def observe(self, stamp: Stamp, milliseconds: float) -> None:
        """Note in which third of the run it was published."""
        participant = self.participant
        since = participant.since_start(stamp.microseconds / 1e6)
        if since is not None and participant.seconds:
            third = min(int(3 * since / participant.seconds), 2)
            participant.measured.times[THIRDS[third]].add(milliseconds)


class Source(PublishUser):
    """Publishes evenly."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    first, last = (result.measured.times[name] for name in (THIRDS[0], THIRDS[2]))
    if not first.count or not last.count:
        return "Nothing can be said: the run was too short to compare its thirds."
    return (
        f"The p99 of the first third was {first.percentile(99):.2f} ms, that of the last {last.percentile(99):.2f} ms "
        f"(median {first.percentile(50):.2f} and {last.percentile(50):.2f} ms), over {result.seconds / 60:.1f} minutes."
    )


SCENARIO = Scenario(__doc__, answer, {"num_users": 200, "spawn_rate": 20, "run_time": "1h", "rate": 20.0})
run_by_locust(SCENARIO)
