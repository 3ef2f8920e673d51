"""A run's report: as text for the terminal, as JSON and CSV for programs, and with a plot."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.histogram import Histogram
from loadtest.measurements import TIMES
from loadtest.plot import as_svg
from loadtest.scenario import Result, Scenario
from loadtest.thresholds import COUNTS, Judgement

PERCENTS = (50.0, 95.0, 99.0, 99.9)
#: Of the generator, not of the server.
OWN = ("own lateness", "behind plan")
#: What the generator adds is a question of degree: from this part of the figure on the report says so.
_WORTH_A_WARNING = 0.25
_MOST_REASONS = 12


def as_text(scenario: Scenario, result: Result, judgements: list[Judgement]) -> str:
    """Return the report for people."""
    measured = result.measured
    lines = [scenario.question, "", f"    {scenario.answer(result)}", ""]
    lines += _table(result)
    counts = measured.counts
    lines += ["", f"{result.streams:,} streams, {result.seconds:.1f} s, {measured.processes} process(es)"]
    if scenario.publishes:
        asked = f" of {counts['asked']:,} asked for" if counts["asked"] else ""
        lines.append(
            f"published {counts['published']:,}{asked}; delivered {counts['delivered']:,}, "
            f"{result.deliveries_a_second:,.0f} a second"
        )
    lines.append("; ".join(f"{name} {counts[name]:,}" for name in COUNTS.values()))
    more = {name: count for name, count in sorted(counts.items()) if count and name not in _shown()}
    if more:
        lines.append("; ".join(f"{name} {count:,}" for name, count in more.items()))
    lines += [f"  {each}" for each in measured.losses.examples]
    lines += [f"  {count:,} x {why}" for why, count in measured.reasons.most_common(_MOST_REASONS)]
    lines += ["", clock(result), generator(scenario, result), ""]
    lines += [str(each) for each in judgements]
    holds = all(each.holds for each in judgements)
    lines += ["", "PASSED" if holds else "FAILED"]
    return "\n".join(lines) + "\n"


def _shown() -> set[str]:
    return {"asked", "published", "delivered", *COUNTS.values()}


def _names(result: Result) -> list[str]:
    measured = [name for name, times in result.measured.times.items() if times.count and name not in OWN]
    # A scenario's own come last, in the order in which it has measured them.
    return sorted(measured, key=lambda name: TIMES.index(name) if name in TIMES else len(TIMES))


def _table(result: Result) -> list[str]:
    names = _names(result)
    width = max([len(name) for name in names] + [10])
    head = f"{'ms':{width}} {'count':>11}" + "".join(f"{f'p{each:g}':>10}" for each in PERCENTS) + f"{'max':>10}"
    rows = []
    for name in names:
        times = result.measured.times[name]
        figures = [times.percentile(each) for each in PERCENTS] + [times.greatest]
        rows.append(f"{name:{width}} {times.count:>11,}" + "".join(f"{each:>10,.2f}" for each in figures))
    return [head, *rows]


def clock(result: Result) -> str:
    """Say by which clocks latency was measured, and how far that can be trusted."""
    measured = result.measured
    if not measured.foreign_clocks:
        return "Clock: one, that of the host on which everything was published and received."
    return (
        f"Clocks: {measured.foreign_clocks} of {measured.processes} processes are on another host than the master. Their "
        f"offset was estimated from answers of the master; a latency from host to host is uncertain by up to "
        f"{2 * measured.clock_doubt_ms:.2f} ms either way."
    )


def generator(scenario: Scenario, result: Result) -> str:
    """Say how late the generator itself was: by so much a figure may be its own."""
    times = result.measured.times
    late = times["own lateness"].percentile(99)
    plan = times["behind plan"]
    text = f"Generator: late by {late:.2f} ms at p99"
    if plan.count:
        text += f"; publishing was {plan.percentile(99):.2f} ms behind its plan at p99"
    figure = times[scenario.main_time].percentile(99)
    if figure and late > figure * _WORTH_A_WARNING and late > 1:
        text += (
            f".\nThat is {100 * late / figure:.0f} % of the p99 of '{scenario.main_time}': the figures are the generator's "
            "rather than the server's.\nGive it more processes (--processes), fewer streams, or a host of its own"
        )
    return text + "."


def as_data(scenario: Scenario, result: Result, judgements: list[Judgement]) -> dict[str, Any]:
    """Return the report as what JSON can hold."""
    measured = result.measured
    return {
        "question": scenario.question,
        "answer": scenario.answer(result),
        "passed": all(each.holds for each in judgements),
        "judgements": [asdict(each) for each in judgements],
        "streams": result.streams,
        "seconds": round(result.seconds, 3),
        "processes": measured.processes,
        "deliveries_a_second": round(result.deliveries_a_second, 1),
        "counts": {name: measured.counts[name] for name in sorted({*measured.counts, *_shown()})},
        "reasons": dict(measured.reasons.most_common()),
        "losses": measured.losses.examples,
        "times_ms": {name: _figures(measured.times[name]) for name in [*_names(result), *OWN]},
        "clock": {"text": clock(result), "uncertainty_ms": round(2 * measured.clock_doubt_ms, 3)},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
        "options": {**asdict(result.options), "header": [each.partition(":")[0] for each in result.options.header]},
    }


def _figures(times: Histogram) -> dict[str, float]:
    figures = {f"p{each:g}": times.percentile(each) for each in PERCENTS}
    return {"count": times.count, "mean": round(times.mean, 3), **figures, "max": round(times.greatest, 3)}


def write(folder: Path, scenario: Scenario, result: Result, judgements: list[Judgement]) -> None:
    """Write report.txt, report.json, times.csv, failures.csv, seconds.csv and plot.svg; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.txt").write_text(as_text(scenario, result, judgements), "utf-8")
    data = as_data(scenario, result, judgements)
    (folder / "report.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    with (folder / "times.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        names = list(_figures(Histogram()))
        rows.writerow(["name", *names])
        for name, figures in data["times_ms"].items():
            rows.writerow([name, *(figures[each] for each in names)])
    with (folder / "failures.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["count", "failure"], *((count, why) for why, count in data["reasons"].items())])
    with (folder / "seconds.csv").open("w", newline="") as file:
        csv.writer(file).writerows(seconds(result))
    (folder / "plot.svg").write_text(as_svg(scenario, result), "utf-8")


def seconds(result: Result) -> Iterator[list[object]]:
    """Yield the course of the run, a row a second, below the names of its columns."""
    yield ["second", "published", "delivered", "open", "p50_ms", "p99_ms", "max_ms"]
    for number, each in sorted(result.measured.seconds.items()):
        delivery = each.delivery
        figures = (delivery.percentile(50), delivery.percentile(99), round(delivery.greatest, 3))
        yield [number, each.published, each.delivered, each.open, *figures]
