"""How many publishes a second does it take, and how long is one?

Few streams and many publishers, each as fast as it is answered: the way in rather than the way out. With --rate it is asked
for a rate instead, and the report says how much of it there was.
"""

from __future__ import annotations

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream like any other."""


class Source(PublishUser):
    """Publishes as fast as it is answered."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    publish = result.measured.times["publish"]
    return (
        f"{publish.count / result.seconds:,.0f} a second by {result.options.publishers} publishers, each within "
        f"{publish.percentile(50):.2f} ms at the median and {publish.percentile(99):.2f} ms at p99."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {
        "num_users": 5,
        "spawn_rate": 100,
        "run_time": "20s",
        "rate": 0.0,
        "publishers": 16,
        "topics": 16,
        "topics_a_stream": 16,
    },
    main_time="publish",
)
run_by_locust(SCENARIO)
