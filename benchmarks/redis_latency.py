"""How much later is an event that comes by way of Redis? Run: ``python -m benchmarks.redis_latency``."""

from __future__ import annotations

from .client import by_turns, load
from .effort import Effort, parse
from .harness import kit_server, redis_server, step_aside
from .report import Report, Table, as_text, judge_most

STREAMS = 100
QUICK_STREAMS = 10
HZ = 50
#: Milliseconds that Redis may add.
BARS = {"p50": 1.0, "p99": 3.0}
#: At this rate a phase of the usual length has too few events for a 99th percentile.
LONGER = 5


def run(effort: Effort) -> Report:
    """Measure both backplanes by turns."""
    step_aside(effort.core)
    streams, seconds = (QUICK_STREAMS, 0.3) if effort.quick else (STREAMS, effort.seconds * LONGER)
    with (
        redis_server(effort) as redis,
        kit_server(effort) as memory,
        kit_server(effort, redis) as joined,
        load(memory, streams, effort) as memory_load,
        load(joined, streams, effort) as joined_load,
    ):
        rounds = by_turns(
            lambda: joined_load.phase("rate", HZ, seconds),
            lambda: memory_load.phase("rate", HZ, seconds),
            effort.rounds,
        )
    rows = [["", "memory", "Redis", "added"]]
    judgements = []
    for name, figure in (("p50", lambda phase: phase.p50_us), ("p99", lambda phase: phase.p99_us)):
        ours, theirs = rounds.median(figure)
        rows.append([name, f"{theirs:,.0f} us", f"{ours:,.0f} us", f"{ours - theirs:,.0f} us"])
        judgements.append(judge_most(f"{name}: added by Redis, ms", (ours - theirs) / 1000, BARS[name]))
    return Report(
        f"How much later are events that come by way of Redis, at {streams:,} streams and {HZ} events a second?",
        f"Medians of {effort.rounds} rounds of {seconds:g} s, Redis and memory by turns. Servers, Redis and client share core "
        f"{effort.core}, over {'TCP' if effort.tcp else 'a unix socket'}; events of 100 bytes published over HTTP. Latency is "
        "from when a publish was due until the event was read from each stream, so with Redis it has the way there and back.",
        judgements,
        [Table("Latency of a delivery", rows)],
    )


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
