"""What does an idle stream hold in memory, and what a quiet topic? Run: ``python -m benchmarks.memory``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median

from sse_core.fanout.engine import STREAM_BYTES

from .client import load
from .effort import Effort, parse
from .harness import FOLDER, BenchmarkError, Server, fetch, kit_server, step_aside
from .memory_of import rss_anon, slab
from .report import Report, Table, as_text, judge_most

STREAMS = 10_000
WARM_UP = 500
TOPICS = 10_000
LOOPS = (1, 2, 4, 8)
BAR = 256
END_SECONDS = 30.0


def run(effort: Effort) -> Report:
    """Measure streams in a worker of the service, and topics in a process of their own."""
    step_aside(effort.core)
    streams, topics, warm_up = (40, 200, 20) if effort.quick else (STREAMS, TOPICS, WARM_UP)
    rounds = [measure_streams(streams, warm_up, effort) for _ in range(effort.rounds)]
    user, later, kernel = (median(column) for column in zip(*rounds, strict=True))
    by_loops = {loops: median(measure_topics(loops, topics) for _ in range(effort.rounds)) for loops in LOOPS}
    slope = (by_loops[LOOPS[-1]] - by_loops[LOOPS[0]]) / (LOOPS[-1] - LOOPS[0])
    return Report(
        "What does an idle stream hold in memory, and a quiet topic?",
        f"Medians of {effort.rounds} fresh processes. Streams: growth of the worker's resident anonymous memory (RssAnon) from "
        f"before {streams:,} streams to 1 s after, divided by their number; {warm_up} streams were opened and closed before, "
        "so that what Python and the allocator take once is there already; at most 128 connections wait for heads at once "
        "(with 512, the requests in flight leave 1.4 MB more behind, once). Kernel memory: growth of the whole machine's slab "
        "meanwhile, which includes the client's end of each connection and whatever else the machine did. Topics: growth of "
        f"RssAnon of a process with one hub for {topics:,} topics that were opened and never published to; what a loop "
        f"adds is the slope from {LOOPS[0]} to {LOOPS[-1]} loops, the rest is Python's share: the name and its entry.",
        [judge_most(f"{streams:,} idle streams: user-space bytes a stream", user, BAR, "{:.0f}")],
        [
            Table(
                "One idle stream",
                [
                    ["", "bytes"],
                    ["user space, resident", f"{user:.0f}"],
                    ["the second half of the streams alone", f"{later:.0f}"],
                    ["of which the struct itself", str(STREAM_BYTES)],
                    ["kernel, both ends", f"{kernel:,.0f}"],
                ],
            ),
            Table(
                "One quiet topic",
                [
                    ["", "bytes"],
                    *([f"{loops} loops" if loops > 1 else "1 loop", f"{each:.0f}"] for loops, each in by_loops.items()),
                    ["a topic and loop", f"{slope:.0f}"],
                ],
            ),
        ],
    )


def measure_streams(streams: int, warm_up: int, effort: Effort) -> tuple[float, float, float]:
    """Return user-space bytes for one stream, the same for one of the second half, and kernel bytes for one."""
    half = streams // 2
    settle = 0.1 if effort.quick else 1.0
    with kit_server(effort) as kit:
        with load(kit, warm_up, effort):
            pass
        wait_until_closed(kit)
        before, kernel = rss_anon(kit.worker), slab()
        with load(kit, half, effort) as first:
            first.phase("idle", 0, settle)
            between = rss_anon(kit.worker)
            with load(kit, streams - half, effort) as second:
                second.phase("idle", 0, settle)
                after = rss_anon(kit.worker)
                return (after - before) / streams, (after - between) / (streams - half), (slab() - kernel) / streams


def wait_until_closed(server: Server) -> None:
    """Return when the server has noticed that all its streams are gone."""
    deadline = time.monotonic() + END_SECONDS
    while '\nsse_kit_streams{namespace="default"} 0' not in fetch(server.address, "/metrics"):
        if time.monotonic() > deadline:
            raise BenchmarkError("streams that were closed are still open")
        time.sleep(0.05)


def measure_topics(loops: int, topics: int) -> float:
    """Return the bytes that one topic takes in a hub with so many loops."""
    command = [sys.executable, "-m", "benchmarks.children.topics", str(loops), str(topics)]
    told = subprocess.run(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, check=True).stdout
    found: float = json.loads(told)
    return found


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
