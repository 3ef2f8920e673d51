"""The report, from recorded numbers."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from loadtest import report
from loadtest.histogram import Histogram
from loadtest.ledger import Losses
from loadtest.measurements import Measurements
from loadtest.options import Options
from loadtest.scenario import Result, Scenario
from loadtest.thresholds import judge

SCENARIO = Scenario("Is it so?\n\nMore of it.", lambda result: f"Yes & no, to {result.streams} <streams>.")


def recorded(late: float = 0.1) -> Result:
    """A run of three seconds, in which one event was lost."""
    measured = Measurements()
    measured.counts.update(published=30, asked=30, delivered=59, lost=1)
    measured.times["own lateness"] = Histogram.of([late] * 100)
    measured.times["delivery"] = Histogram.of([2.0] * 58 + [40.0])
    measured.times["connect"] = Histogram.of([5.0, 6.0])
    for number in range(3):
        second = measured.seconds[number]
        second.delivered, second.published, second.open = 20, 10, 2
        second.delivery.add(2.0, 20)
    measured.losses = Losses(1, 0, ["stream 0.1, topic a, source 0: event 7"])
    measured.failed("lost", "never came, and nobody said so")
    measured.counts["lost"] = 1
    return Result(Options(header=("Authorization: Bearer secret",)), measured, 3.0, 2, disturbed_at=1.0)


def test_the_text_answers_and_judges() -> None:
    """Question, answer, times, what was lost and whether that is a failure: all in one page."""
    result = recorded()
    text = report.as_text(SCENARIO, result, judge(result))

    assert text.startswith("Is it so?\n\n    Yes & no, to 2 <streams>.\n")
    assert "stream 0.1, topic a, source 0: event 7" in text
    assert "FAILED lost: 1 (at most 0)" in text
    assert text.endswith("\nFAILED\n")
    assert "published 30 of 30 asked for; delivered 59, 20 a second" in text


def test_measurements_can_be_sent_and_added() -> None:
    """What the master adds up of two processes is the sum of both."""
    one = recorded().measured
    total = Measurements()
    for _ in range(2):
        total.add_message(json.loads(json.dumps(one.to_message())))

    assert total.counts["delivered"] == 2 * 59
    assert (total.times["delivery"].count, total.times["delivery"].greatest) == (2 * 59, 40.0)
    assert [(each.delivered, each.open) for each in total.seconds.values()] == [(40, 4)] * 3
    assert total.losses.silent == 2
    assert total.reasons == {"lost: never came, and nobody said so": 2}


def test_the_generator_tells_its_own_lateness() -> None:
    """A generator that was as late as what it measured says that the figures are its own."""
    good, bad = (report.generator(SCENARIO, recorded(late)) for late in (0.1, 39.0))

    assert "late by 0.10 ms at p99" in good
    assert "the figures are the generator's" not in good
    assert "the figures are the generator's" in bad


def test_clocks_are_told() -> None:
    """On one host there is one clock; between hosts the doubt of an estimated offset is part of the report."""
    result = recorded()
    one = report.clock(result)
    result.measured.foreign_clocks, result.measured.processes, result.measured.clock_doubt_ms = 2, 3, 0.75
    many = report.clock(result)

    assert one.startswith("Clock: one")
    assert "2 of 3 processes" in many
    assert "uncertain by up to 1.50 ms" in many


def test_files_are_written_for_programs(tmp_path: Path) -> None:
    """JSON and CSV have the figures, the picture is well-formed, and no header's value is in any of them."""
    result = recorded()
    report.write(tmp_path / "new", SCENARIO, result, judge(result))

    data = json.loads((tmp_path / "new/report.json").read_text())
    assert (data["passed"], data["counts"]["lost"], data["times_ms"]["delivery"]["max"]) == (False, 1, 40.0)
    with (tmp_path / "new/seconds.csv").open() as file:
        assert [row["delivered"] for row in csv.DictReader(file)] == ["20", "20", "20"]
    with (tmp_path / "new/times.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["connect", "delivery", "own lateness", "behind plan"]
    picture = ElementTree.parse(tmp_path / "new/plot.svg").getroot()
    texts = ["".join(each.itertext()) for each in picture.iter() if each.tag.endswith("text")]
    assert "Yes & no, to 2 <streams>." in texts
    assert "disturbed" in texts
    assert all("secret" not in path.read_text() for path in (tmp_path / "new").iterdir())


def test_a_run_without_figures_has_a_report(tmp_path: Path) -> None:
    """Where nothing was measured the report still says so, with an empty picture."""
    result = Result(Options(), Measurements(), 1.0, 0)
    report.write(tmp_path, SCENARIO, result, judge(result))

    assert "nothing was measured" in (tmp_path / "plot.svg").read_text()
    assert (tmp_path / "report.txt").read_text().endswith("FAILED\n")
