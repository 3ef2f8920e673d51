"""What does a publish over HTTP cost with Redis, beside memory? Run: ``python -m benchmarks.redis_publish``."""

from __future__ import annotations

from .client import Load, Phase, by_turns, load
from .effort import Effort, parse
from .harness import kit_server, redis_server, step_aside
from .report import Judgement, Report, Table, as_text, judge_least

#: Title, kind of phase and its parameter (see ``native/load.c``), and the least events a second with Redis.
CASES = (
    ("single, one at a time", "flight", 1, None),
    ("single, 8 at a time", "flight", 8, 1_500),
    ("ndjson of 10", "batch", 10, None),
    ("ndjson of 100", "batch", 100, 25_000),
    ("ndjson of 1,000", "batch", 1_000, None),
)


def run(effort: Effort) -> Report:
    """Measure both backplanes by turns."""
    step_aside(effort.core)
    judgements: list[Judgement] = []
    rows = [["", "events/s", "memory", "worker", "Redis", "memory's worker"]]
    with (
        redis_server(effort) as redis,
        kit_server(effort) as memory,
        kit_server(effort, redis) as joined,
        load(memory, 1, effort) as memory_load,
        load(joined, 1, effort) as joined_load,
    ):
        for title, kind, parameter, bar in CASES:

            def phase(of: Load, kind: str = kind, parameter: int = parameter) -> Phase:
                return of.phase(kind, parameter, effort.seconds)

            rounds = by_turns(lambda: phase(joined_load), lambda: phase(memory_load), effort.rounds)
            (rate, memory_rate), (cpu, memory_cpu), (redis_us, _) = (
                rounds.median(lambda each: each.publishes / each.seconds),
                rounds.median(lambda each: each.server_cpu_ns / each.publishes / 1000),
                rounds.median(lambda each: each.redis_cpu_ns / each.publishes / 1000),
            )
            if bar is not None:
                judgements.append(judge_least(f"{title}: events a second with Redis", rate, bar, "{:,.0f}"))
            rows.append(
                [
                    title,
                    f"{rate:,.0f}",
                    f"{memory_rate:,.0f}",
                    *(f"{each:.1f} us" for each in (cpu, redis_us, memory_cpu)),
                ]
            )
    return Report(
        "What does a publish over HTTP cost with Redis, beside memory?",
        f"Medians of {effort.rounds} rounds of {effort.seconds:g} s, Redis and memory by turns. One worker each, with one "
        "stream, to which every event is delivered before the next request (or the next of 8) is sent. Servers, Redis and "
        f"client share core {effort.core}, over {'TCP' if effort.tcp else 'a unix socket'}, so that events a second are those "
        "of all of them together; events of 100 bytes. CPU time is of one event: of all processes of the server, the "
        "event's way back from Redis and its delivery included, and of Redis.",
        judgements,
        [Table("Events a second, and CPU time of an event", rows)],
    )


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
