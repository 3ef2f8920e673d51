"""How long are streams away when all of them are cut at once, and does any of them lose an event by it?

A server that is restarted, a proxy that reloads, a network that comes back. With --disturb-command something cuts them from
outside, and the server has to come back too; without it each stream closes its own connection, all in the same moment, and
comes back at once, as after a cable was pulled and plugged in again. What was published meanwhile must be replayed.
"""

from __future__ import annotations

import time

from loadtest.plugin import run_by_locust
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.user import SSEUser


class Listener(SSEUser):
    """A stream that is cut once, unless somebody else does it."""

    _was_cut = False

    def turn(self) -> None:
        """One connection; after its own cut there is no wait before the next."""
        before = self._was_cut
        self.connect_and_read()
        if self._was_cut == before:
            self.wait_for_retry()

    def after_read(self) -> None:
        """Cut it when it is time."""
        participant = self.participant
        if participant.is_disturbed and not self._was_cut and not participant.options.disturb_command:
            self._was_cut = True
            self._lost_at = time.monotonic()
            self.client.close()


class Source(PublishUser):
    """Goes on publishing meanwhile."""


def answer(result: Result) -> str:
    """Say it in one sentence."""
    measured = result.measured
    away = measured.times["reconnect"]
    if not away.count:
        return "No stream was cut: nothing can be said."
    lost = measured.counts["lost"] + measured.counts["told"]
    loss = (
        "none has lost an event"
        if not lost
        else f"{lost:,} events were lost, {measured.counts['told']:,} of them announced by a gap"
    )
    return (
        f"{away.count:,} returns of {result.streams:,} streams took {away.percentile(50):,.0f} ms at the median and "
        f"{away.greatest:,.0f} ms at most; {loss}, and {measured.times['replayed'].count:,} were replayed."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {"num_users": 200, "spawn_rate": 100, "run_time": "30s", "rate": 50.0, "publish_tries": 60, "max_cut": -1},
    main_time="reconnect",
    disturbs=True,
)
run_by_locust(SCENARIO)
