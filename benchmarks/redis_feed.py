"""How many events a second come from Redis into one worker? Run: ``python -m benchmarks.redis_feed``."""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from .child import Child, child
from .effort import Effort, parse
from .flood import Flood
from .harness import RedisServer, cpu_ns, other_core, redis_server, step_aside
from .report import Report, Table, as_text, judge_least

TOPICS = tuple(f"topic-{number}" for number in range(10))
STREAMS = 3
BAR = 50_000
AIM = 150_000
#: The batches that the bars are about.
JUDGED_BATCH = 100
WARM_UP_EVENTS = 2_000


class Case(NamedTuple):
    """How events are published."""

    batch: int
    topics: tuple[str, ...] = TOPICS[:1]
    mixed: bool = False

    def __str__(self) -> str:
        if len(self.topics) == 1:
            return f"batches of {self.batch:,}, one topic" if self.batch > 1 else "one by one, one topic"
        topics = f"{len(self.topics)} topics"
        return f"batches of {self.batch:,}, {topics} mixed" if self.mixed else f"batches of {self.batch:,}, {topics}"


CASES = (
    *map(Case, (1, 10, 100, 1_000)),
    *(Case(batch, TOPICS) for batch in (10, 100, 1_000)),
    *(Case(batch, TOPICS, mixed=True) for batch in (100, 1_000)),
)
QUICK_CASES = (Case(1), Case(100), Case(100, TOPICS, mixed=True))


class Sample(NamedTuple):
    """One round of one case; CPU times are of one event, in microseconds."""

    rate: float
    worker: float
    reader: float
    redis: float


class Feed:
    """A worker that is fed: a process with a hub, and some streams on all topics."""

    def __init__(self, redis: RedisServer, worker: Child) -> None:
        self._redis = redis
        self._worker = worker
        self._deliveries = 0

    def measure(self, case: Case, *, events: int = 0, seconds: float = 0.0) -> Sample:
        """Publish so many events, or for so long, and wait until the last one was sent to the last stream."""
        reader = self._worker.ask(self._deliveries)["reader_cpu"]
        with Flood(self._redis, case.topics, case.batch, mixed=case.mixed) as flood:
            worker, redis = cpu_ns(self._worker.pid), cpu_ns(self._redis.pid)
            start = time.monotonic_ns()
            count = flood.publish(events=events, seconds=seconds)
            self._deliveries += count * STREAMS
            told = self._worker.ask(self._deliveries)
            return Sample(
                rate=count * 1e9 / (told["at"] - start),
                worker=(cpu_ns(self._worker.pid) - worker) / count / 1000,
                reader=(told["reader_cpu"] - reader) / count / 1000,
                redis=(cpu_ns(self._redis.pid) - redis) / count / 1000,
            )


def run(effort: Effort) -> Report:
    """Measure all cases by turns."""
    beside = other_core(effort.core)
    step_aside(effort.core)
    cases = QUICK_CASES if effort.quick else CASES
    samples: dict[Case, list[Sample]] = {case: [] for case in cases}
    with (
        redis_server(effort, beside) as redis,
        child("feed", redis.url, str(STREAMS), *TOPICS, core=effort.core) as worker,
    ):
        feed = Feed(redis, worker)
        for case in cases:
            feed.measure(case, events=WARM_UP_EVENTS)
        for _ in range(effort.rounds):
            for case in cases:
                samples[case].append(feed.measure(case, seconds=effort.seconds))
    found = {case: Sample(*map(median, zip(*each, strict=True))) for case, each in samples.items()}
    one, mixed = found[Case(JUDGED_BATCH)], found[Case(JUDGED_BATCH, TOPICS, mixed=True)]
    return Report(
        "How many events a second come from Redis into one worker?",
        f"Medians of {effort.rounds} rounds of {effort.seconds:g} s, all cases by turns. Events of 100 bytes, published by "
        "prebuilt calls of the publish script, some of them always under way; the worker has a hub with "
        f"RedisBackplane and {STREAMS} streams, each on all topics, which another process drains. The worker runs "
        f"alone on core {effort.core}; Redis, the publisher and whoever drains share core {beside}, over "
        f"{'TCP' if effort.tcp else 'a unix socket'}. Events a second: from the first publish until the last event was sent "
        "to the last stream. It is no more than Redis and its publisher can do; 'room' is what the worker's CPU time "
        "leaves: a second divided by it. Mixed: no two events that follow each other are of one topic, so that each is a "
        "message of its own.",
        [
            judge_least(f"batches of {JUDGED_BATCH}, one topic: events a second", one.rate, BAR, "{:,.0f}"),
            judge_least(
                f"batches of {JUDGED_BATCH}, {len(TOPICS)} topics mixed: events a second", mixed.rate, BAR, "{:,.0f}"
            ),
            judge_least(
                f"batches of {JUDGED_BATCH}, one topic: events a second of the worker's CPU time",
                1e6 / one.worker,
                AIM,
                "{:,.0f}",
            ),
        ],
        [
            Table(
                "Events a second, and CPU time of an event",
                [
                    ["published", "events/s", "worker", "of which the reader", "room", "Redis"],
                    *(
                        [
                            str(case),
                            f"{each.rate:,.0f}",
                            *(f"{each.worker:.2f} us", f"{each.reader:.2f} us", f"{1e6 / each.worker:,.0f}/s"),
                            f"{each.redis:.2f} us",
                        ]
                        for case, each in found.items()
                    ),
                ],
            )
        ],
    )


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
