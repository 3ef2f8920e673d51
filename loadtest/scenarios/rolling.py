"""Does anybody lose an event, and how long is a stream away, while servers are replaced one after the other?

--disturb-command replaces them: kubectl rollout restart, a signal to gunicorn. A good server sends its streams away a few at
a time, with a time to come back, so that the cost of returning is spread; and nothing that was published meanwhile is
missing afterwards, whatever the process that a stream comes back to.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream like any other."""


class Source(PublishUser):
    """Goes on publishing meanwhile, and repeats what was not answered."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    measured = result.measured
    away = measured.times["reconnect"]
    if not away.count:
        return "No stream was sent away: was --disturb-command the right one?"
    lost = measured.counts["lost"] + measured.counts["told"]
    loss = (
        "Nobody lost an event"
        if not lost
        else f"{lost:,} events were lost, {measured.counts['told']:,} of them announced by a gap"
    )
    return (
        f"{loss}; {away.count:,} returns of {result.streams:,} streams took {away.percentile(50):,.0f} ms at the median and "
        f"{away.greatest:,.0f} ms at most."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {"num_users": 200, "spawn_rate": 100, "run_time": "60s", "rate": 50.0, "publish_tries": 60, "max_cut": -1},
    main_time="reconnect",
    disturbs=True,
)
run_by_locust(SCENARIO)
