"""Times in buckets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.histogram import Histogram

TIMES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200)


@settings(deadline=None)
@given(TIMES, st.floats(1, 100))
def test_percentiles_are_exact_to_a_part_in_64(times: list[float], percent: float) -> None:
    """A percentile is that of the sorted times, but for the rounding of a bucket."""
    ordered = sorted(times)
    exact = next(each for rank, each in enumerate(ordered, 1) if rank >= len(ordered) * percent / 100)

    assert Histogram.of(times).percentile(percent) == pytest.approx(exact, rel=1 / 64, abs=0.001)


@settings(deadline=None)
@given(TIMES, TIMES)
def test_two_are_added_as_if_they_had_been_one(first: list[float], second: list[float]) -> None:
    """What two processes have measured is the same as if one had measured it."""
    both = Histogram.of(first)
    both.add_all(Histogram.of(second))
    one = Histogram.of(first + second)

    assert [both.percentile(each) for each in (1, 50, 99, 100)] == [one.percentile(each) for each in (1, 50, 99, 100)]
    assert (both.count, both.greatest) == (one.count, one.greatest)
    assert both.mean == pytest.approx(one.mean)


def test_it_can_be_sent() -> None:
    """The master gets all of it, through a coding that knows lists and numbers."""
    sent = Histogram.of([0.5, 12.25, 12.25, 800])

    got = Histogram.from_message(json.loads(json.dumps(sent.to_message())))

    assert (got.count, got.greatest, got.mean, got.percentile(50)) == (4, 800, sent.mean, sent.percentile(50))


def test_an_empty_one_is_zero() -> None:
    """Nothing was measured: no figure, and no error."""
    empty = Histogram()

    assert (empty.count, empty.percentile(99), empty.mean, empty.greatest) == (0, 0, 0, 0)
