"""What does an event cost Redis? Run: ``python -m benchmarks.redis_cost``."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import redis

from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.topology import topology

from .drained import drainer
from .effort import Effort, parse
from .flood import Flood
from .harness import RedisServer, cpu_ns, redis_server, step_aside
from .report import Report, Table, as_text, judge_most

TOPIC = "benchmark"
BATCHES = (1, 10, 100, 1_000)
#: Processes that are subscribed.
WORKERS = (0, 1, 4)
QUICK_BATCHES = (1, 100)
#: Microseconds of an event, for one worker.
BARS = {1: 40.0, 100: 10.0}
TIMEOUT = 10.0
WARM_UP_EVENTS = 1_000
#: What has rows of its own; all the others together have one.
COMMANDS = ("xadd", "spublish")


@dataclass(frozen=True)
class Sample:
    """Of one event, in microseconds."""

    #: CPU time of the whole process.
    cpu: float
    #: Elapsed, by command: the script's includes all that it calls.
    commands: dict[str, float]


def run(effort: Effort) -> Report:
    """Measure all batches with all numbers of workers by turns."""
    step_aside(effort.core)
    batches = QUICK_BATCHES if effort.quick else BATCHES
    cases = list(itertools.product(batches, WORKERS))
    samples: dict[tuple[int, int], list[Sample]] = {case: [] for case in cases}
    with redis_server(effort) as server:
        # One is not counted.
        for turn in range(effort.rounds + 1):
            for batch, workers in cases:
                sample = measure(server, batch, workers, effort)
                samples[batch, workers] += [sample] if turn else []
    cpu = {case: median(each.cpu for each in found) for case, found in samples.items()}
    titles = ["one by one" if batch == 1 else f"batches of {batch:,}" for batch in batches]
    return Report(
        "What does an event cost Redis?",
        f"Medians of {effort.rounds} rounds of {effort.seconds:g} s, all figures by turns. Events of 100 bytes on one topic, "
        "published by prebuilt calls of the publish script, some of them always under way, each with a key of its own. "
        f"Redis runs on core {effort.core}, the publisher and whoever reads for the workers on others, over "
        f"{'TCP' if effort.tcp else 'a unix socket'}. A worker is a connection that is subscribed to the topic. The "
        "second table is what INFO commandstats says with one worker: time that has passed inside of commands. The script "
        "is a command that calls the others; what is left is its own Lua, and handing arguments "
        "and replies over. Outside of commands are reading and parsing "
        "calls, and writing answers and messages: the CPU time of the process without that of the script.",
        [
            judge_most(f"{title}, one worker: CPU time of an event, us", cpu[batch, 1], BARS[batch], "{:.1f}")
            for batch, title in zip(batches, titles, strict=True)
            if batch in BARS
        ],
        [
            Table(
                "CPU time of Redis for one event",
                [
                    ["", "no worker", *("1 worker" if count == 1 else f"{count} workers" for count in WORKERS[1:])],
                    *(
                        [title, *(f"{cpu[batch, workers]:.2f} us" for workers in WORKERS)]
                        for batch, title in zip(batches, titles, strict=True)
                    ),
                ],
            ),
            Table(
                "Where it goes, with one worker",
                [
                    ["", *titles],
                    *(
                        [row, *(f"{each:.2f} us" for each in found)]
                        for row, *found in zip(ROWS, *(parts(samples[batch, 1]) for batch in batches), strict=True)
                    ),
                ],
            ),
        ],
    )


ROWS = (
    "the script",
    *(f"of which {name.upper()}" for name in COMMANDS),
    "of which others: keys, clock, expiry",
    "Lua, and its way to commands and back",
    "outside of commands",
)


def parts(samples: list[Sample]) -> list[float]:
    """Return the figures of `ROWS`, each the median of the rounds."""
    rows = []
    for sample in samples:
        script = sample.commands.get("evalsha", 0.0)
        called = sum(sample.commands.values()) - script
        own = [sample.commands.get(name, 0.0) for name in COMMANDS]
        rows.append([script, *own, called - sum(own), script - called, max(0.0, sample.cpu - script)])
    return [median(column) for column in zip(*rows, strict=True)]


def measure(server: RedisServer, batch: int, workers: int, effort: Effort) -> Sample:
    """Return one round."""
    with (
        subscribed(server, workers),
        Flood(server, (TOPIC,), batch) as flood,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        flood.publish(events=WARM_UP_EVENTS)
        client.config_resetstat()
        before = cpu_ns(server.pid)
        events = flood.publish(seconds=effort.seconds)
        cpu = cpu_ns(server.pid) - before
        stats = client.info("commandstats")
    commands = {name.removeprefix("cmdstat_"): each["usec"] / events for name, each in stats.items()}
    return Sample(
        cpu / events / 1000, {name: each for name, each in commands.items() if "|" not in name and name != "info"}
    )


@contextlib.contextmanager
def subscribed(server: RedisServer, workers: int) -> Iterator[None]:
    """Subscribe as so many workers do; another process reads what comes."""
    places = topology(server.url, timeout=TIMEOUT)
    with contextlib.ExitStack() as stack:
        stack.callback(places.close)
        drain = stack.enter_context(drainer(os.sched_getaffinity(0)))
        for _ in range(workers):
            subscriber = places.connect("default")
            subscriber.subscribe([Names("default").live(TOPIC)])
            drain([subscriber.fileno()])
            # Kept open here, too: closing it would shut the connection down for both.
            stack.callback(subscriber.close)
        yield


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
