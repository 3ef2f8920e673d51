"""How long does a burst take to reach every stream?

Many events at once, then silence: a market that opens, a log that is flushed. What counts is the last event on the last
stream, so the answer is the tail.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream like any other."""


class Source(PublishUser):
    """Publishes a burst, as fast as its answers come, and waits for the next."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    delivery = result.measured.times["delivery"]
    return (
        f"Of bursts of {result.options.burst * result.options.publishers:,} events 99 of 100 deliveries took at most "
        f"{delivery.percentile(99):.2f} ms, and none longer than {delivery.greatest:.2f} ms; {result.streams:,} streams, "
        f"{result.deliveries_a_second:,.0f} deliveries a second on average."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {
        "num_users": 100,
        "spawn_rate": 100,
        "run_time": "30s",
        "burst": 50,
        "rate": 50.0,
        "publishers": 2,
        "topics": 2,
        "topics_a_stream": 2,
    },
)
run_by_locust(SCENARIO)
