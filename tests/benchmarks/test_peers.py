"""The comparison with other servers runs, and its page says what was measured and what was not."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.effort import Effort
from benchmarks.harness import BenchmarkError, Server
from benchmarks.peers.measure import Delivery, Found, measure
from benchmarks.peers.page import as_markdown, plots
from benchmarks.peers.servers import PEERS, Peer
from benchmarks.plot import bars

ROOT = Path(__file__).parents[2]
EFFORT = Effort(rounds=1, seconds=0.05, quick=True)
OURS = next(peer for peer in PEERS if peer.ours)
OTHER = next(peer for peer in PEERS if not peer.ours)
FOUND = [
    Found(OURS, 100, 100, 900, 150, Delivery(1.0, 1.2, 90_000), Delivery(0.1, 0.2, 900_000), 0.5, 0.9),
    Found(
        OTHER,
        100,
        100,
        90,
        15_000,
        Delivery(9.0, 11.0, 9_000),
        None,
        5.5,
        99.0,
        missing="load: burst:20 came to a stop",
    ),
]


def peers(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


# Those that need nothing but what the tests need. One of them loses events of a burst, and that is waited for.
@pytest.mark.parametrize(
    "name",
    [
        *("sse-kit", "sse-kit, nginx", "sse-starlette", "a thread each"),
        pytest.param("django-eventstream", marks=pytest.mark.soak),
    ],
)
def test_a_peer_is_measured(name: str) -> None:
    """Each peer serves streams and publishes, and a line of figures comes out."""
    done = peers("--quick", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^10 streams  {name}  [\d,]+  [\d,-]+  [\d.]+ us  ", done.stdout, re.MULTILINE), done.stdout


def test_the_page_is_of_one_full_run() -> None:
    """`--write` is refused for a part of the peers and for sizes that mean nothing, and an unknown peer is named."""
    assert "full run" in peers("--quick", "--write").stderr
    assert "full run" in peers("--write", "flask-sse").stderr
    assert "nobody" in peers("nobody").stderr


def test_what_cannot_be_run_is_told() -> None:
    """A peer that does not start has no figures, and the reason is kept."""

    @contextmanager
    def broken(effort: Effort, streams: int) -> Iterator[Server]:
        raise BenchmarkError("broken did not start: no such module")
        yield

    found = measure(Peer("broken", "not at all", broken), 10, EFFORT)
    assert (found.flight, found.burst, found.connects) == (None, None, None)
    assert found.missing == "broken did not start: no such module"


def test_a_peer_without_room_has_fewer_streams() -> None:
    """What a machine's open files do not allow is not tried, and how many streams there were is told."""
    found = measure(replace(OURS, most=9, burst=5), 10, EFFORT)
    assert (found.streams, found.opened, found.burst_of) == (10, 9, 5)
    assert found.burst is not None
    why = "since each takes two of the 20,000 files that a process may open here"
    assert f"- {OURS.name}: 9 streams, {why}; bursts of 5, a stream's queue holds no more." in as_markdown(
        [found], [], EFFORT
    )


def test_streams_that_were_opened_anew_are_told() -> None:
    """A server that ends streams while it opens others is measured with those that were opened anew, and that is told."""
    assert replace(FOUND[0], again=3).remarks == [
        "streams that ended while others were opened, and were opened anew: 3"
    ]
    assert FOUND[0].remarks == []


def test_the_page_has_a_row_for_each_peer_and_the_reason_for_what_is_missing() -> None:
    """What was measured is in the table, what was not is a dash and a line below it."""
    page = as_markdown(FOUND, [("machine", "a small one")], EFFORT)
    assert "- machine: a small one" in page
    assert f"| {OURS.name} | 900 | 150 | 1.00 us | 1.20 | 0.10 us | 0.20 | 900,000 | 0.5 ms | 0.9 ms |" in page
    assert f"| {OTHER.name} | 90 | 15,000 | 9.00 us | 11.00 | - | - | 9,000 | 5.5 ms | 99.0 ms |" in page
    assert f"- {OTHER.name}: load: burst:20 came to a stop" in page
    drawn = plots(FOUND)
    assert set(re.findall(r"\(images/([^)]+)\)", page)) == set(drawn)


def test_a_chart_is_well_formed_and_longer_for_more() -> None:
    """A chart is valid XML; a larger value has a longer bar, and one that is missing says so."""
    drawn = ElementTree.fromstring(
        bars("Cost <of> it", "us", [("a & b", 1.0, True), ("c", 50.0, False), ("d", None, False)])
    )
    widths = [float(each.get("width", "0")) for each in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    texts = "".join(drawn.itertext())
    assert len(widths) == 2
    assert widths[0] < widths[1]
    assert "Cost <of> it" in texts
    assert "a & b" in texts
    assert "not measured" in texts
