"""The benchmark of capacity runs, and its page says what was measured. What it measures is not tested here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.capacity import as_document
from benchmarks.report import Report, Table

ROOT = Path(__file__).resolve().parents[2]


def capacity(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.capacity", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_an_event_reaches_the_streams_of_all_servers() -> None:
    """Streams on two servers with one Redis are opened, and each gets the events that are published at the first one."""
    done = capacity("--quick", "--streams", "31")

    assert done.returncode == 0, done.stderr
    assert "31 streams" in done.stdout
    assert "the last one" in done.stdout


def test_figures_of_a_quick_run_are_not_written() -> None:
    """A page never has figures that mean nothing."""
    assert capacity("--quick", "--write").returncode == 2


def test_the_page_has_figures_and_method() -> None:
    """Machine, method and table are on the page, as they were measured."""
    report = Report("How many?", "By counting.", [], [Table("One run", [["", "7 streams"], ["opened in", "1.0 s"]])])
    page = as_document(report, [("machine", "small")])

    assert "- machine: small" in page
    assert "By counting." in page
    assert "| opened in | 1.0 s |" in page
