"""What does a delivery cost, and how soon are 10,000 streams connected? Run: ``python -m benchmarks.fanout``."""

from __future__ import annotations

import time
from statistics import median

from .client import Load, Phase, Rounds, by_turns, load
from .effort import Effort, parse
from .harness import kit_server, plain_server, step_aside
from .report import Judgement, Report, Table, as_text, judge_least, judge_most

BURST = 20
#: The most that a delivery may cost, as a multiple of the plain server's: by streams, for one in flight and for bursts.
BARS = {1_000: (1.2, 0.25), 10_000: (1.08, 0.10)}
QUICK_STREAMS = (10, 40)
DELIVERIES_BAR = 1_500_000
CONNECT_BAR = 5.0


def run(effort: Effort) -> Report:
    """Measure all."""
    step_aside(effort.core)
    judgements: list[Judgement] = []
    rows = [["streams, phase", "sse-kit", "plain", "ratio", "deliveries/s", "plain"]]
    sizes = QUICK_STREAMS if effort.quick else tuple(BARS)
    for streams, bars in zip(sizes, BARS.values(), strict=True):
        flight, burst = measure(streams, effort)
        for name, rounds, bar in (("one in flight", flight, bars[0]), (f"bursts of {BURST}", burst, bars[1])):
            ratio = rounds.ratio(lambda phase: phase.cpu_us)
            (ours, plain), (our_rate, plain_rate) = (
                rounds.median(lambda phase: phase.cpu_us),
                rounds.median(lambda phase: phase.rate),
            )
            what = f"{streams:,} streams, {name}"
            judgements.append(judge_most(f"{what}: CPU a delivery / plain server's", ratio, bar, "{:.3f}"))
            rows.append(
                [what, f"{ours:.3f} us", f"{plain:.3f} us", f"{ratio:.3f}", f"{our_rate:,.0f}", f"{plain_rate:,.0f}"]
            )
    # Of the last, the bursts at the most streams.
    judgements.append(judge_least(f"{what}: deliveries a second", our_rate, DELIVERIES_BAR, "{:,.0f}"))
    connects = [connect(sizes[-1], effort) for _ in range(effort.rounds)]
    judgements.append(
        judge_most(f"{sizes[-1]:,} streams connected through Falcon and gunicorn, s", median(connects), CONNECT_BAR)
    )
    return Report(
        "What does a delivery cost, beside a server that calls send() for each?",
        effort.method
        + " The plain server frames an event once and sends it to each stream by one send(), from one epoll "
        "loop in C. Connect time is from the first connect to the last response head, to a fresh server each time.",
        judgements,
        [
            Table("Server CPU for one delivery", rows),
            Table(
                f"Connecting {sizes[-1]:,} streams",
                [["round", *map(str, range(1, len(connects) + 1))], ["s", *(f"{each:.2f}" for each in connects)]],
            ),
        ],
    )


def measure(streams: int, effort: Effort) -> tuple[Rounds, Rounds]:
    """Return the rounds of one in flight and of bursts."""
    with (
        plain_server(effort) as plain,
        kit_server(effort) as kit,
        load(plain, streams, effort) as plain_load,
        load(kit, streams, effort) as kit_load,
    ):

        def phase(of: Load, kind: str, parameter: int) -> Phase:
            return of.phase(kind, parameter, effort.seconds)

        flight = by_turns(lambda: phase(kit_load, "flight", 1), lambda: phase(plain_load, "flight", 1), effort.rounds)
        burst = by_turns(
            lambda: phase(kit_load, "burst", BURST), lambda: phase(plain_load, "burst", BURST), effort.rounds
        )
    return flight, burst


def connect(streams: int, effort: Effort) -> float:
    """Return how long it takes until all streams of a fresh server have their heads, in seconds."""
    with kit_server(effort) as kit:
        # A server that has just started is still busy with itself for a moment, which is another question.
        time.sleep(0 if effort.quick else 1)
        with load(kit, streams, effort) as client:
            return client.connect_seconds


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
