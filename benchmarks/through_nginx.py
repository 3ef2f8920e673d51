"""What does a delivery cost through nginx, and does a storm of clients get in? Run: ``python -m benchmarks.through_nginx``."""

from __future__ import annotations

import time
from dataclasses import replace

from .client import Load, Phase, Rounds, by_turns, load
from .effort import Effort, parse
from .fanout import BURST
from .harness import BenchmarkError, kit_server, plain_server, step_aside
from .nginx_front import nginx_front
from .report import Judgement, Report, Table, as_text, judge_most

#: The most that a delivery may cost, as a multiple of the plain server's behind the same nginx: by streams, for one in
#: flight and for bursts.
BARS = {1_000: (1.1, 0.6), 5_000: (1.1, 0.3)}
QUICK_STREAMS = (10, 40)
#: All at once: more than the kernel queues for a listener (net.core.somaxconn), fewer than a worker of nginx has room for.
STORM = 9_000
QUICK_STORM = 60
UPSTREAMS = {"unix socket": False, "TCP": True}


def run(effort: Effort) -> Report:
    """Measure all."""
    step_aside(effort.core)
    judgements: list[Judgement] = []
    rows = [["upstream, streams, phase", "sse-kit", "plain", "ratio", "deliveries/s", "plain"]]
    storms = [["upstream", "seconds", "sent away"]]
    sizes = QUICK_STREAMS if effort.quick else tuple(BARS)
    for upstream, tcp in list(UPSTREAMS.items())[: 1 if effort.quick else None]:
        side = replace(effort, tcp=tcp)
        for streams, bars in zip(sizes, BARS.values(), strict=True):
            flight, burst = measure(streams, side)
            for name, rounds, bar in (("one in flight", flight, bars[0]), (f"bursts of {BURST}", burst, bars[1])):
                ratio = rounds.ratio(lambda phase: phase.cpu_us)
                (ours, plain), (our_rate, plain_rate) = (
                    rounds.median(lambda phase: phase.cpu_us),
                    rounds.median(lambda phase: phase.rate),
                )
                what = f"{upstream}, {streams:,} streams, {name}"
                judgements.append(judge_most(f"{what}: CPU a delivery / plain server's", ratio, bar, "{:.3f}"))
                rows.append(
                    [
                        what,
                        f"{ours:.3f} us",
                        f"{plain:.3f} us",
                        f"{ratio:.3f}",
                        f"{our_rate:,.0f}",
                        f"{plain_rate:,.0f}",
                    ]
                )
        count = QUICK_STORM if effort.quick else STORM
        seconds, sent_away = storm(count, side)
        judgements.append(
            judge_most(f"{upstream}, {count:,} clients at once: sent away by nginx", sent_away, 0, "{:.0f}")
        )
        storms.append([upstream, f"{seconds:.2f}" if seconds else "", str(sent_away)])
    return Report(
        "What does a delivery cost through nginx, and does a storm of clients get in?",
        effort.method.replace("over a unix socket", "over TCP").replace("of the server.", "of the server and of nginx.")
        + " nginx has the shipped configuration and one worker, and stands in front of the plain server as it does in front of "
        "ours; the upstream is what is between the two. In a storm all clients connect before the first is answered.",
        judgements,
        [Table("CPU of nginx and server for one delivery", rows), Table(f"{count:,} clients at once", storms)],
    )


def measure(streams: int, effort: Effort) -> tuple[Rounds, Rounds]:
    """Return the rounds of one in flight and of bursts."""
    with (
        plain_server(effort) as plain,
        kit_server(effort) as kit,
        nginx_front(plain, effort) as plain_front,
        nginx_front(kit, effort) as kit_front,
        load(plain_front.server, streams, effort) as plain_load,
        load(kit_front.server, streams, effort) as kit_load,
    ):

        def phase(of: Load, kind: str, parameter: int) -> Phase:
            return of.phase(kind, parameter, effort.seconds)

        flight = by_turns(lambda: phase(kit_load, "flight", 1), lambda: phase(plain_load, "flight", 1), effort.rounds)
        burst = by_turns(
            lambda: phase(kit_load, "burst", BURST), lambda: phase(plain_load, "burst", BURST), effort.rounds
        )
    return flight, burst


def storm(clients: int, effort: Effort) -> tuple[float | None, int]:
    """Connect that many at once. Return the seconds until all have their heads, and how many were sent away.

    None of seconds if some were: the client ends at the first of them.
    """
    with kit_server(effort) as kit, nginx_front(kit, effort) as front:
        # A server that has just started is still busy with itself for a moment, which is another question.
        time.sleep(0 if effort.quick else 1)
        try:
            with load(front.server, clients, effort, window=clients) as client:
                return client.connect_seconds, front.sent_away()
        except BenchmarkError:
            # What is told by the log when the requests have ended.
            time.sleep(1)
            return None, max(1, front.sent_away())


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
