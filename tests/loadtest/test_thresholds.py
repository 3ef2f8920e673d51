"""Pass or fail, from recorded numbers."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.histogram import Histogram
from loadtest.measurements import Measurements
from loadtest.options import Options
from loadtest.scenario import Result
from loadtest.thresholds import COUNTS, TIMES, exit_code, judge


def result(counts: dict[str, int], times: dict[str, list[float]] | None = None, **options: Any) -> Result:
    measured = Measurements()
    measured.counts.update(counts)
    for name, each in (times or {}).items():
        measured.times[name] = Histogram.of(each)
    return Result(Options(**options), measured, 10.0, 5)


def failures(of: Result) -> list[str]:
    return [each.what for each in judge(of) if not each.holds]


def test_a_run_without_fault_passes() -> None:
    """Something was measured and no bound is broken: 0."""
    good = result({"delivered": 100, "published": 10, "asked": 10}, {"delivery": [1.0] * 100}, max_p99_ms=50.0)

    assert failures(good) == []
    assert exit_code(judge(good)) == 0


def test_a_run_that_measured_nothing_fails() -> None:
    """Nothing received is no success, even if every bound is off."""
    off = dict.fromkeys([*COUNTS, *TIMES, "min_published"], -1)
    empty = result({}, **off)

    assert failures(empty) == ["something was measured"]
    assert exit_code(judge(empty)) == 1


@pytest.mark.parametrize(("option", "counter"), COUNTS.items())
def test_each_fault_has_a_bound(option: str, counter: str) -> None:
    """One fault is one too many by default, is let through by its bound, and is not judged by a negative one."""
    counts = {"delivered": 1, counter: 2}

    assert failures(result(counts)) == [counter]
    assert failures(result(counts, **{option: 1})) == [counter]
    assert failures(result(counts, **{option: 2})) == []
    assert failures(result(counts, **{option: -1})) == []


@pytest.mark.parametrize(("option", "name"), [(option, name) for option, (name, _) in TIMES.items()])
def test_each_time_has_a_bound(option: str, name: str) -> None:
    """A time is judged where a bound is set, at its percentile; a bound on what was never measured is broken."""
    _, percent = TIMES[option]
    times = {name: [float(each) for each in range(1, 101)]}

    assert failures(result({"delivered": 1}, times)) == []
    assert failures(result({"delivered": 1}, times, **{option: percent + 1})) == []
    assert failures(result({"delivered": 1}, times, **{option: percent - 5})) == [f"{name} p{percent:g}"]
    assert failures(result({"delivered": 1}, **{option: 1000.0})) == [f"{name} p{percent:g}"]


def test_less_than_was_asked_for_is_a_failure() -> None:
    """A generator that published too little has not tested what it was asked to; the bound can be taken away."""
    counts = {"delivered": 1, "published": 80, "asked": 100}

    assert failures(result(counts)) == ["published of what was asked for"]
    assert failures(result(counts, min_published=75.0)) == []
    assert failures(result(counts, min_published=0.0)) == []


def test_what_stood_in_the_way_is_a_failure() -> None:
    """A run that did not come to its end, or streams that never got anything, are failures whatever was measured."""
    measured = result({"delivered": 5, "never subscribed": 1})
    hindered = Result(measured.options, measured.measured, 1.0, 5, obstacles=("a process is missing",))

    assert failures(hindered) == ["the run came to its end", "streams that never received anything"]
