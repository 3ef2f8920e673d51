"""How cost grows is measured for each of the things that grow, and charts of lines are right."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.growth import CURVES
from benchmarks.plot import Line, lines

ROOT = Path(__file__).parents[2]


def growth(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.growth", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_each_curve_is_measured() -> None:
    """Streams, topics, sizes and loops each get a table, and a quick run writes nothing."""
    done = growth("--quick")
    assert done.returncode == 0, done.stderr
    assert all(f"\n{curve.unit}\n" in done.stdout for curve in CURVES)
    assert growth("--quick", "--write").returncode == 2


def test_a_line_rises_with_its_values() -> None:
    """A chart of lines is valid XML, and on it a larger value is further up and further right."""
    drawn = ElementTree.fromstring(lines("A & B", [Line("<one>", [(1, 2.0), (10, 20.0)]), Line("two", [(1, 5.0)])]))
    circles = [
        (float(each.get("cx", "0")), float(each.get("cy", "0")))
        for each in drawn.iter("{http://www.w3.org/2000/svg}circle")
    ]
    (left, low), (right, high), (_, middle) = circles
    assert left < right
    assert high < middle < low
    assert "<one>" in "".join(drawn.itertext())
