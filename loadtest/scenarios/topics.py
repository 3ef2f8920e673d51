"""Does an event reach the streams of its topic, and no others, when there are many topics?

Each stream has a few of them: a chat with many rooms, a page for each of many orders. An event of a topic that a stream has
not asked for is a failure of its own.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream of a few topics."""


class Source(PublishUser):
    """Publishes into its share of the topics by turns."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    measured, options = result.measured, result.options
    delivery = measured.times["delivery"]
    wrong = measured.counts["misdelivered"]
    told = "Yes" if not wrong and delivery.count else f"No: {wrong:,} went astray" if wrong else "Nothing was delivered"
    return (
        f"{told}, within {delivery.percentile(50):.2f} ms at the median and {delivery.percentile(99):.2f} ms at p99; "
        f"{options.topics:,} topics, {result.streams:,} streams of {options.topics_a_stream} each."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {
        "num_users": 200,
        "spawn_rate": 100,
        "run_time": "30s",
        "topics": 1000,
        "topics_a_stream": 5,
        "publishers": 4,
        "rate": 200.0,
    },
)
run_by_locust(SCENARIO)
