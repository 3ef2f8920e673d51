"""Where does the time go between Redis and a worker's streams? Run: ``python -m benchmarks.redis_stages``."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from statistics import median

import redis

from sse_core import Event
from sse_core.backplane.redis.commands import Item, publish
from sse_core.backplane.redis.names import Names

from .child import Child, child
from .children.stages import END, STAGES, STREAMS
from .effort import Effort, parse
from .flood import HISTORY_AGE_MS, HISTORY_EVENTS, KEY_WINDOW_MS, MAX_KEYS, Flood
from .harness import RedisServer, cpu_ns, other_core, redis_server, step_aside
from .report import Report, Table, as_text, judge_least, judge_most

#: Batches, and how many events are read at once.
EVENTS = {1: 20_000, 10: 50_000, 100: 50_000, 1_000: 50_000}
QUICK_EVENTS = {1: 300, 100: 1_000}
JUDGED_BATCH = 100
BAR = 150_000
#: What reading a message may take, beside redis-py.
READING_BAR = 0.25
HUB = "hub"
TITLES = dict(
    zip(
        STAGES,
        (
            "read by redis-py's PubSub, and forgotten",
            "read by our Subscriber (hiredis alone), and forgotten",
            "+ decoded",
            "+ put into order by a feed",
            f"+ framed and appended to an engine that sends to {STREAMS} streams",
        ),
        strict=True,
    )
)
READER, WORKER = "a hub's reader thread, all in all", "the hub's process: + the loop that sends"


def run(effort: Effort) -> Report:
    """Measure all stages by turns."""
    beside = other_core(effort.core)
    step_aside(effort.core)
    sizes = QUICK_EVENTS if effort.quick else EVENTS
    names = [*TITLES.values(), READER, WORKER]
    found: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in sizes} for name in names}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(redis_server(effort, beside))
        stages = {stage: stack.enter_context(child("stages", server.url, stage, core=effort.core)) for stage in STAGES}
        hub = StoppedHub(server, stack.enter_context(child("feed", server.url, str(STREAMS), HUB, core=effort.core)))
        # One is not counted.
        for turn in range(effort.rounds + 1):
            for batch, events in sizes.items():
                for stage, reader in stages.items():
                    cpu = read(server, reader, stage, batch, events)
                    found[TITLES[stage]][batch] += [cpu] if turn else []
                for name, cpu in zip((READER, WORKER), hub.read(batch, events), strict=True):
                    found[name][batch] += [cpu] if turn else []
    figures = {name: {batch: median(each) for batch, each in by_batch.items()} for name, by_batch in found.items()}
    redis_py, subscriber = (figures[TITLES[stage]][1] for stage in STAGES[:2])
    return Report(
        "Where does the time go between Redis and a worker's streams?",
        f"Medians of {effort.rounds} rounds, all rows by turns after one that is not counted: CPU time of an event of 100 "
        "bytes on one topic. Each row reads the same messages: "
        f"{' or '.join(f'{each:,}' for each in sorted(set(sizes.values())))} events that were published before it began, so "
        "that Redis has them ready. Each row does what the one before it does, and more; the first is what the second "
        "replaces. All rows but the last are of the one thread that reads; the last is of the whole process, with its "
        "loop. A batch is one message, or two above 64 KiB.",
        [
            judge_most("one message: our Subscriber / redis-py", subscriber / redis_py, READING_BAR),
            judge_least(
                f"batches of {JUDGED_BATCH}: events a second of the hub's CPU time",
                1e6 / figures[WORKER][JUDGED_BATCH],
                BAR,
                "{:,.0f}",
            ),
        ],
        [
            Table(
                "CPU time of an event, in microseconds",
                [
                    ["", *("one by one" if batch == 1 else f"batches of {batch:,}" for batch in sizes)],
                    *([name, *(f"{each:.3f}" for each in by_batch.values())] for name, by_batch in figures.items()),
                ],
            )
        ],
    )


def read(server: RedisServer, reader: Child, stage: str, batch: int, events: int) -> float:
    """Return the CPU time of an event that a stage reads, in microseconds."""
    with Flood(server, (stage,), batch) as flood:
        count = flood.publish(events=events)
    with redis.Redis.from_url(server.url, protocol=2) as client:
        end = [Item(stage, Event(END), HISTORY_EVENTS, HISTORY_AGE_MS)]
        key = secrets.token_hex(8)
        publish(client, Names("default"), end, batch_key=key, key_window_ms=KEY_WINDOW_MS, max_keys=MAX_KEYS)
    cpu: int = reader.ask(count)["cpu"]
    return cpu / count / 1000


class StoppedHub:
    """A process with a hub, which reads all the time, and so is stopped while events are published.

    That takes a second at most: after three without a sign of life its reader would connect anew.
    """

    def __init__(self, server: RedisServer, process: Child) -> None:
        self._server = server
        self._process = process
        self._deliveries = 0

    def read(self, batch: int, events: int) -> tuple[float, float]:
        """Return the CPU time of an event, in microseconds: of the reading thread, and of the process."""
        reader = self._process.ask(self._deliveries)["reader_cpu"]
        before = cpu_ns(self._process.pid)
        with Flood(self._server, (HUB,), batch) as flood:
            os.kill(self._process.pid, signal.SIGSTOP)
            try:
                count = flood.publish(events=events)
            finally:
                os.kill(self._process.pid, signal.SIGCONT)
        self._deliveries += count * STREAMS
        told = self._process.ask(self._deliveries)
        return (told["reader_cpu"] - reader) / count / 1000, (cpu_ns(self._process.pid) - before) / count / 1000


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
