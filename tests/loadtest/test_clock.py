"""One time for processes of several hosts."""

from __future__ import annotations

import pytest

from loadtest.clock import DRIFT, Clock, identity


class Hosts:
    """A master, and a host whose clock is off; the way between them takes as long as it is told."""

    def __init__(self, offset: float) -> None:
        self.master = 1000.0
        self.offset = offset
        self.clock = Clock(lambda: self.master - self.offset)

    def ask(self, there: float, back: float) -> None:
        asked = self.clock.local()
        self.master += there
        answer = self.master
        self.master += back
        self.clock.answered(asked, answer, self.clock.local())


def test_on_one_host_there_is_nothing_to_estimate() -> None:
    """Processes on one kernel have the same identity and the same clock, with no doubt about it."""
    clock = Clock()

    assert identity() == identity()
    assert (clock.is_shared, clock.offset, clock.uncertainty) == (True, 0.0, 0.0)


@pytest.mark.parametrize("offset", [-5000.0, 0.25, 90_000.0])
@pytest.mark.parametrize(("there", "back"), [(0.001, 0.001), (0.0, 0.004), (0.010, 0.0)])
def test_the_estimate_is_within_its_own_doubt(offset: float, there: float, back: float) -> None:
    """However lopsided the way is, the offset is off by no more than what is said of it."""
    hosts = Hosts(offset)
    hosts.ask(there, back)

    assert abs(hosts.clock.now() - hosts.master) <= hosts.clock.uncertainty + 1e-9
    assert hosts.clock.uncertainty == pytest.approx((there + back) / 2)


def test_the_quickest_answer_is_believed() -> None:
    """An answer that took long says little, before or after a quick one."""
    hosts = Hosts(12.0)
    for there, back in ((0.4, 0.0), (0.0005, 0.0005), (0.0, 0.9)):
        hosts.ask(there, back)

    assert hosts.clock.now() == pytest.approx(hosts.master, abs=0.001)
    assert hosts.clock.uncertainty < 0.001


def test_an_answer_grows_old() -> None:
    """Two clocks drift apart, so the doubt grows with time."""
    hosts = Hosts(1.0)
    hosts.ask(0.001, 0.001)
    before = hosts.clock.uncertainty
    hosts.master += 20

    assert hosts.clock.uncertainty - before == pytest.approx(20 * DRIFT)


def test_before_the_first_answer_nothing_is_known() -> None:
    """A clock that is not the master's and has no answer is in doubt without a bound."""
    clock = Clock()
    clock.is_shared = False

    assert clock.uncertainty == float("inf")
