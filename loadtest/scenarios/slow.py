"""Do streams that do not read delay those that do?

A share of the streams stops reading, for a third of the run: a sleeping laptop, a phone in a tunnel. The others must not
notice: their latency while that lasts is compared with what it was before. What becomes of the slow ones is the server's
decision (they may be told a gap, or be cut and replay), as long as nothing is lost without a word.
"""

from __future__ import annotations

import gevent

from loadtest import messages
from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.stamp import Stamp
from loadtest.user import SSEUser

BEFORE = "before"
WHILE = "while others do not read"
SLOW = "to those that do not"


class Listener(SSEUser):
    """Reads, or is one of those that stop."""

    # Little room in the kernel, so that the server soon notices.
    receive_buffer = 4096

    def on_start(self) -> None:
        """Decide which it is, evenly spread."""
        super().on_start()
        number = int(self.ledger.name.partition(".")[2])
        share = self.participant.options.slow_share / 100
        self._is_slow = int((number + 1) * share) > int(number * share)
        self._has_slept = False
        if self._is_slow:
            self.delivery_name = SLOW

    def after_read(self) -> None:
        """Of a slow one: read nothing for a third of the run, then go on."""
        participant = self.participant
        if self._is_slow and participant.is_disturbed and not self._has_slept:
            self._has_slept = True
            until = participant.clock.now() + participant.seconds / 3
            while participant.clock.now() < until and participant.phase == messages.GO:
                gevent.sleep(0.1)

    def observe(self, stamp: Stamp, milliseconds: float) -> None:
        """Of a fast one: what it takes, before and while."""
        if not self._is_slow:
            name = WHILE if self.participant.is_disturbed else BEFORE
            self.participant.measured.times[name].add(milliseconds)


class Source(PublishUser):
    """Publishes evenly."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    before, during = result.measured.times[BEFORE], result.measured.times[WHILE]
    if not before.count or not during.count:
        return "Nothing can be said: the run was too short to compare."
    return (
        f"The p99 of those that read was {before.percentile(99):.2f} ms before, and {during.percentile(99):.2f} ms while "
        f"{result.options.slow_share:g} % of {result.streams:,} streams did not read (median {before.percentile(50):.2f} and "
        f"{during.percentile(50):.2f} ms)."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    # Large enough that what is not read does not fit into buffers.
    {
        "num_users": 100,
        "spawn_rate": 100,
        "run_time": "30s",
        "rate": 100.0,
        "size": 4000,
        "max_cut": -1,
        "max_gaps": -1,
        "max_told": -1,
    },
    main_time=WHILE,
    disturbs=True,
)
run_by_locust(SCENARIO)
