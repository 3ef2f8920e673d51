"""What does io_uring save, over unix sockets and over TCP? Run: ``python -m benchmarks.io_uring``."""

from __future__ import annotations

import re
from dataclasses import replace

from .client import Load, Phase, Rounds, by_turns, load
from .effort import Effort, parse
from .harness import fetch, kit_server, step_aside
from .report import Judgement, Report, Table, as_text, judge_most

BURST = 20
SIZES = (1_000, 10_000)
QUICK_SIZES = (10,)
#: The most that a delivery may cost with io_uring, as a multiple of what it costs without. Of single events: a burst has
#: few sends, and they are not what it costs.
BAR = 1.0


def run(effort: Effort) -> Report:
    """Measure all."""
    step_aside(effort.core)
    judgements: list[Judgement] = []
    rows = [["streams, phase", "with", "without", "ratio", "deliveries/s", "without"]]
    used = True
    for tcp in (False, True):
        for streams in QUICK_SIZES if effort.quick else SIZES:
            flight, burst, loops = measure(streams, replace(effort, tcp=tcp))
            used = used and loops > 0
            for phase, rounds in (("one in flight", flight), (f"bursts of {BURST}", burst)):
                what = f"{'TCP' if tcp else 'unix'}, {streams:,} streams, {phase}"
                ratio = rounds.ratio(lambda phase: phase.cpu_us)
                cost, cost_without = rounds.median(lambda phase: phase.cpu_us)
                rate, rate_without = rounds.median(lambda phase: phase.rate)
                if rounds is flight:
                    judgements.append(judge_most(f"{what}: CPU a delivery, with / without", ratio, BAR, "{:.3f}"))
                rows.append(
                    [
                        what,
                        f"{cost:.3f} us",
                        f"{cost_without:.3f} us",
                        f"{ratio:.3f}",
                        f"{rate:,.0f}",
                        f"{rate_without:,.0f}",
                    ]
                )
    kernel = (
        "This kernel let the server use it."
        if used
        else "This kernel did not let the server use it: both are the same."
    )
    return Report(
        "What does io_uring save?",
        f"{effort.method} Here the transport is named in each row, and the reference is the same server with io_uring=False. "
        f"{kernel}",
        judgements,
        [Table("Server CPU for one delivery", rows)],
    )


def measure(streams: int, effort: Effort) -> tuple[Rounds, Rounds, int]:
    """Return the rounds of one in flight and of bursts, and how many loops of the server do use it."""
    with (
        kit_server(effort) as ringing,
        kit_server(effort, io_uring=False) as sending,
        load(ringing, streams, effort) as ours,
        load(sending, streams, effort) as reference,
    ):

        def phase(of: Load, kind: str, parameter: int) -> Phase:
            return of.phase(kind, parameter, effort.seconds)

        flight = by_turns(lambda: phase(ours, "flight", 1), lambda: phase(reference, "flight", 1), effort.rounds)
        burst = by_turns(lambda: phase(ours, "burst", BURST), lambda: phase(reference, "burst", BURST), effort.rounds)
        found = re.search(r"^sse_kit_io_uring_loops\{.*\} (\d+)", fetch(ringing.address, "/metrics"), re.MULTILINE)
    return flight, burst, int(found[1]) if found else 0


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
