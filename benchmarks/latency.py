"""How late is an event when the server is not busy? Run: ``python -m benchmarks.latency``."""

from __future__ import annotations

from .client import by_turns, load
from .effort import Effort, parse
from .harness import kit_server, plain_server, step_aside
from .report import Report, Table, as_text, judge_most

STREAMS = 1_000
QUICK_STREAMS = 10
HZ = 10
BAR = 1.3
#: At this rate a phase of the usual length has too few events for a 99th percentile.
LONGER = 5


def run(effort: Effort) -> Report:
    """Measure both servers by turns."""
    step_aside(effort.core)
    streams, seconds = (QUICK_STREAMS, 0.3) if effort.quick else (STREAMS, effort.seconds * LONGER)
    with (
        plain_server(effort) as plain,
        kit_server(effort) as kit,
        load(plain, streams, effort) as plain_load,
        load(kit, streams, effort) as kit_load,
    ):
        rounds = by_turns(
            lambda: kit_load.phase("rate", HZ, seconds), lambda: plain_load.phase("rate", HZ, seconds), effort.rounds
        )
    rows = [["", "sse-kit", "plain", "ratio"]]
    for name, figure in (("p50", lambda phase: phase.p50_us), ("p99", lambda phase: phase.p99_us)):
        ours, theirs = rounds.median(figure)
        rows.append([name, f"{ours:,.0f} us", f"{theirs:,.0f} us", f"{rounds.ratio(figure):.2f}"])
    return Report(
        f"How late are events at {streams:,} streams and {HZ} events a second?",
        effort.method
        + f" Here a round has {seconds:g} s. Latency is from when a publish was due, whether or not it could "
        "be sent then, until the event was read from each stream.",
        [judge_most("p99 / plain server's", rounds.ratio(lambda phase: phase.p99_us), BAR)],
        [Table("Latency of a delivery", rows)],
    )


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
