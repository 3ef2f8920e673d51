"""Each scenario against the kit behind nginx: it asks its question, gets an answer, and judges."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loadtest.__main__ import scenarios
from tests.loadtest.runs import Run, run
from tests.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


def test_smoke(stack: Stack, tmp_path: Path) -> None:
    """Of two processes' streams each gets every event once, in order; text, JSON, CSV, HTML and a picture say so."""
    done = run(tmp_path, "steady", stack.nginx.url, "--processes", "2", "-u", "20", "--events", "100", "--rate", "50")

    assert done.code == 0, done.printed
    assert "PASSED" in done.printed
    assert (done.data["passed"], done.data["streams"], done.data["processes"]) == (True, 20, 2)
    assert (done.counts["published"], done.counts["delivered"], done.counts["lost"]) == (100, 2000, 0)
    assert done.data["times_ms"]["delivery"]["count"] == 2000
    assert done.data["times_ms"]["connect"]["count"] == 20
    assert done.data["clock"]["uncertainty_ms"] == 0
    assert (tmp_path / "report.txt").read_text() in done.printed
    with (tmp_path / "times.csv").open() as file:
        assert {"connect", "delivery", "publish"} <= {row["name"] for row in csv.DictReader(file)}
    with (tmp_path / "seconds.csv").open() as file:
        assert sum(int(row["delivered"]) for row in csv.DictReader(file)) == 2000
    with (tmp_path / "locust_stats.csv").open() as file:
        assert {"connect", "delivery", "publish"} <= {row["Name"] for row in csv.DictReader(file)}
    assert "delivery" in (tmp_path / "locust.html").read_text()
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


#: Few of everything: what they find is tested, not how much they can.
SMALL = {
    "bursts": ("-u", "10", "--events", "200", "--rate", "200"),
    "publish": ("-u", "2", "--events", "200"),
    "slow": ("-u", "5", "--events", "60", "--disturb-after", "0.2", "--slow-share", "40"),
    "soak": ("-u", "10", "--spawn-rate", "20", "--events", "60", "--rate", "60"),
    "topics": ("-u", "20", "--topics", "40", "--events", "80"),
}


@pytest.fixture(scope="module")
def small_runs(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All of them at once: they wait most of the time."""
    folder = tmp_path_factory.mktemp("small")
    with ThreadPoolExecutor(len(SMALL)) as pool:
        runs = {name: pool.submit(run, folder / name, name, stack.nginx.url, *SMALL[name]) for name in SMALL}
    return {name: each.result() for name, each in runs.items()}


@pytest.mark.parametrize("scenario", SMALL)
def test_every_event_is_accounted_for(small_runs: dict[str, Run], scenario: str) -> None:
    """Whatever the shape of the load, all of it is published, nothing is lost, and the question has an answer."""
    done = small_runs[scenario]

    assert done.code == 0, done.printed
    assert done.counts["published"] == int(SMALL[scenario][SMALL[scenario].index("--events") + 1])
    assert done.counts["delivered"] > 0
    assert done.counts["lost"] == 0
    assert done.data["question"] == scenarios()[scenario]
    assert done.data["answer"] in done.printed


def test_a_storm_is_replayed(stack: Stack, tmp_path: Path) -> None:
    """All streams are cut at once and come back; how long that took is told, and what they missed has been replayed."""
    options = ("-u", "10", "--events", "100", "--disturb-after", "0.5")
    done = run(tmp_path, "storm", stack.nginx.url, *options)

    assert done.code == 0, done.printed
    assert done.data["times_ms"]["reconnect"]["count"] >= 10
    assert done.counts["delivered"] == 10 * 100
    assert "none has lost an event" in done.data["answer"]


def test_an_answer_of_a_model_is_read_to_its_end(stack: Stack, tmp_path: Path) -> None:
    """Time to the first token, pauses and whole answers are measured, token by token."""
    done = run(tmp_path, "tokens", stack.nginx.url, "-u", "3", "--events", "3", "--prompt-words", "8")

    assert done.code == 0, done.printed
    assert done.counts["answers"] >= 3
    assert done.data["times_ms"]["first event"]["count"] >= 3
    assert done.data["times_ms"]["pause between tokens"]["count"] >= 3 * 7
