"""How late does an event reach each of many streams, at a steady rate?

All streams have the same topics; events are published one by one, evenly. The median is what a delivery takes, the tail is
what a fan-out to all of them takes: the last stream is served when all others have been.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream like any other."""


class Source(PublishUser):
    """Publishes evenly."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    delivery = result.measured.times["delivery"]
    rate = result.measured.counts["published"] / result.seconds
    return (
        f"By {delivery.percentile(50):.2f} ms at the median and {delivery.percentile(99):.2f} ms at p99, "
        f"at {rate:,.1f} events a second to {result.streams:,} streams."
    )


SCENARIO = Scenario(__doc__, answer, {"num_users": 100, "spawn_rate": 100, "run_time": "30s"})
run_by_locust(SCENARIO)
