"""How does cost grow with streams, topics, sizes and loops? Run: ``python -m benchmarks.growth [--quick] [--write]``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from .child import Child, child
from .effort import Effort, chosen, options
from .harness import FOLDER, BenchmarkError, step_aside
from .plot import Line, lines
from .report import Report, Table, as_text, header, markdown_table

#: A process may hold so many streams, with what else it has open.
MOST_STREAMS = 17_000
#: Deliveries of one round, roughly; and its publishes at least and at most.
DELIVERIES, LEAST, MOST = 300_000, 20, 2_000
QUICK_DELIVERIES = 40
DOCS = FOLDER.parent / "docs"


@dataclass(frozen=True)
class Setting:
    """What is varied, and what is not."""

    streams: int = 1_000
    topics: int = 1
    size: int = 100
    loops: int = 1


@dataclass(frozen=True)
class Point:
    """Medians of CPU time at one setting, in microseconds."""

    #: In the native threads, for one delivery.
    delivery: float
    #: In the thread that publishes, for one event.
    publish: float


@dataclass(frozen=True)
class Curve:
    """One thing that grows."""

    name: str
    #: Of the axis.
    unit: str
    settings: Callable[[bool], list[tuple[float, Setting]]]
    #: What is held.
    held: str
    #: Read beside the plot.
    reading: str


def _streams(quick: bool) -> list[tuple[float, Setting]]:
    sizes = (1, 4, 10) if quick else (1, 10, 100, 1_000, 10_000, 50_000)
    return [(size, Setting(streams=size)) for size in sizes]


def _topics(quick: bool) -> list[tuple[float, Setting]]:
    streams, sizes = (10, (1, 5, 10)) if quick else (10_000, (1, 10, 100, 1_000, 10_000))
    return [(size, Setting(streams=streams, topics=size)) for size in sizes]


def _sizes(quick: bool) -> list[tuple[float, Setting]]:
    streams, sizes = (4, (100, 1_000)) if quick else (1_000, (100, 400, 1_600, 6_400, 25_600, 65_536))
    return [(size, Setting(streams=streams, size=size)) for size in sizes]


def _loops(quick: bool) -> list[tuple[float, Setting]]:
    streams, sizes = (4, (1, 2)) if quick else (10_000, (1, 2, 3, 4))
    return [(size, Setting(streams=streams, loops=size)) for size in sizes]


CURVES = (
    Curve(
        "streams",
        "streams of one topic",
        _streams,
        "one topic, 100 bytes, one loop; 50,000 streams are three processes, because of open files",
        "A delivery costs less the more share the waking of a loop, until what they touch no longer fits the caches. A "
        "publish runs with caches that the sends before it have emptied.",
    ),
    Curve(
        "topics",
        "topics that 10,000 streams are spread over",
        _topics,
        "10,000 streams, 100 bytes, one loop",
        "The fewer streams an event has, the more of its cost is the waking of the loop, which each event needs once.",
    ),
    Curve(
        "size",
        "bytes of an event's data",
        _sizes,
        "1,000 streams of one topic, one loop",
        "An event is framed and logged once; what grows is the kernel's copy of it for each socket.",
    ),
    Curve(
        "loops",
        "loops",
        _loops,
        "10,000 streams of one topic, 100 bytes, all loops on one core",
        "Every loop gets its own copy of the event, which a publish makes; on one core more of them gain nothing.",
    ),
)


def measure(setting: Setting, effort: Effort) -> Point:
    """Measure at one setting. Raises `BenchmarkError`."""
    processes = -(-setting.streams // MOST_STREAMS)
    shares = [setting.streams // processes + (at < setting.streams % processes) for at in range(processes)]
    per_event = max(setting.streams // setting.topics, 1)
    events = QUICK_DELIVERIES // per_event + 1 if effort.quick else min(max(DELIVERIES // per_event, LEAST), MOST)
    deliveries, publishes = [], []
    with _children(setting, shares, effort) as running, ThreadPoolExecutor(processes) as pool:
        # One round is not counted.
        for _ in range(effort.rounds + 1):
            told = list(pool.map(lambda each: each.ask(events), running))
            deliveries.append(sum(each["loop_ns"] for each in told) / sum(each["deliveries"] for each in told) / 1000)
            publishes.append(sum(each["publish_ns"] for each in told) / events / processes / 1000)
    return Point(median(deliveries[1:]), median(publishes[1:]))


@contextlib.contextmanager
def _children(setting: Setting, shares: Sequence[int], effort: Effort) -> Iterator[list[Child]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                child("growth", *map(str, (share, setting.topics, setting.size, setting.loops)), core=effort.core)
            )
            for share in shares
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all curves, print them, and write docs/growth.md if asked to. Returns 2 if one could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/growth.md and its plots")
    options(parser)
    arguments = parser.parse_args(argv)
    if arguments.write and arguments.quick:
        parser.error("--write needs a full run: a quick one's figures mean nothing")
    effort = chosen(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts = [("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")), *header()]
    page = [*_beginning(facts, effort)]
    cores = os.sched_getaffinity(0)
    step_aside(effort.core)
    try:
        for curve in CURVES:
            found = [(at, measure(setting, effort)) for at, setting in curve.settings(effort.quick)]
            rows = _rows(curve, found)
            print(as_text(Report(curve.name, curve.held, [], [Table(curve.unit, rows)])), flush=True)
            page += _section(curve, found, rows)
            if arguments.write:
                (DOCS / "images" / f"growth-{curve.name}.svg").write_text(_plot(curve, found), encoding="utf-8")
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        os.sched_setaffinity(0, cores)
    if arguments.write:
        (DOCS / "growth.md").write_text("\n".join(page), encoding="utf-8")
    return 0


_Found = Sequence[tuple[float, Point]]


def _beginning(facts: Sequence[tuple[str, str]], effort: Effort) -> list[str]:
    return [
        "# How cost grows",
        "",
        "Generated by `make bench-growth`; do not edit.",
        "",
        *(f"- {name}: {value}" for name, value in facts),
        "",
        f"Medians of {effort.rounds} rounds. A hub in memory in a process of its own, its streams on socket pairs whose other "
        "ends are read by another process on another core. Events are published one at a time, each when the one before has "
        "reached all its streams. A delivery is CPU time of the native threads, a publish is that of the thread that calls "
        "`Hub.publish`, without any HTTP.",
        "",
    ]


def _rows(curve: Curve, found: _Found) -> list[list[str]]:
    head = [[curve.unit, "a delivery", "a publish"]]
    return head + [[f"{at:,g}", f"{point.delivery:.3f} us", f"{point.publish:.2f} us"] for at, point in found]


def _section(curve: Curve, found: _Found, rows: Sequence[Sequence[str]]) -> list[str]:
    (first, at_first), (last, at_last) = found[0], found[-1]
    return [
        f"## {curve.unit.capitalize()}",
        "",
        f"From {first:,g} to {last:,g} a delivery goes from {at_first.delivery:.2f} to {at_last.delivery:.2f} us, and "
        f"a publish from {at_first.publish:.1f} to {at_last.publish:.1f} us. {curve.reading} Held: {curve.held}.",
        "",
        *markdown_table(rows),
        "",
        f"![CPU time by {curve.unit}](images/growth-{curve.name}.svg)",
        "",
    ]


def _plot(curve: Curve, found: _Found) -> str:
    return lines(
        f"CPU time by {curve.unit}, us",
        [
            Line("a delivery", [(at, point.delivery) for at, point in found]),
            Line("a publish", [(at, point.publish) for at, point in found]),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
