"""What does `Hub.publish` cost, and does that grow with the subscribers? Run: ``python -m benchmarks.publish``."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from statistics import median

from sse_core import BusyError, Event, Hub

from .drained import subscribed
from .effort import Effort, parse
from .harness import BenchmarkError
from .report import Report, Table, as_text, judge_least, judge_most

TOPIC = "benchmark"
PAYLOAD = "x" * 100
EVENTS = 200_000
BAR = 500_000
SUBSCRIBERS = (0, 10, 100, 1_000, 10_000)
QUICK_SUBSCRIBERS = (0, 3, 10)
#: Deliveries of one point of the curve in one round; and the most publishes for it.
DELIVERIES, MOST_PUBLISHES = 500_000, 150
AT_ONCE = 20
#: "Does not grow", with room for noise.
GROWTH_BAR = 1.25
#: Walked before a publish, so that neither cache nor TLB has anything of its path left, whatever the sends before it did.
WALK_BYTES, QUICK_WALK_BYTES = 32 << 20, 1 << 20
DELIVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Point:
    """Medians of the CPU time inside one publish, in nanoseconds."""

    #: With the loop asleep, so that it has to be woken.
    alone: float
    #: One of several without a pause.
    together: float
    #: As alone, with caches that are cold for every number of subscribers.
    cold: float


def run(effort: Effort) -> Report:
    """Measure publishing without a subscriber, then the curve."""
    before = os.sched_getaffinity(0)
    # The loops' threads inherit it: publisher and loop on one core, whoever drains on another.
    os.sched_setaffinity(0, {effort.core})
    try:
        return _run(effort)
    finally:
        os.sched_setaffinity(0, before)


def _run(effort: Effort) -> Report:
    events = 2_000 if effort.quick else EVENTS
    sizes = QUICK_SUBSCRIBERS if effort.quick else SUBSCRIBERS
    # One is not counted.
    rounds = [publish_to_nobody(events) for _ in range(effort.rounds + 1)][1:]
    cpu, wall = (median(column) for column in zip(*rounds, strict=True))
    curve: dict[int, list[Point]] = {size: [] for size in sizes}
    for _ in range(effort.rounds):
        for size in sizes:
            curve[size].append(publish_to(size, effort.quick))
    points = {
        size: Point(
            median(each.alone for each in found),
            median(each.together for each in found),
            median(each.cold for each in found),
        )
        for size, found in curve.items()
    }
    least, most = points[sizes[1]], points[sizes[-1]]
    return Report(
        "What does Hub.publish cost, and does that grow with the subscribers?",
        f"A prebuilt event of 100 bytes, history on. Medians of {effort.rounds} rounds; CPU time of the publishing thread. "
        f"Without subscribers: {events:,} events a round. The curve: subscribers are socket pairs that a separate process "
        f"drains; publisher and loop share core {effort.core}. Alone: one publish when everything before is delivered, so "
        f"that a sleeping loop is woken (without a subscriber it need not be). Together: one of {AT_ONCE} without a pause. "
        f"Cold: as alone, after a walk through {WALK_BYTES >> 20} MiB of memory. That is the one to judge growth by: "
        "thousands of sends leave the core's caches cold for whatever comes next, and this makes them so for every point. "
        "Each figure includes reading the clock. What the loop does, the deliveries, is in none.",
        [
            judge_least("events a second of CPU time in one thread, no subscriber", 1e9 / cpu, BAR, "{:,.0f}"),
            judge_most(
                f"time inside publish (cold), {sizes[-1]:,} subscribers / {sizes[1]}",
                most.cold / least.cold,
                GROWTH_BAR,
            ),
        ],
        [
            Table(
                "No subscriber",
                [
                    ["", "ns an event", "events/s"],
                    ["CPU of the publishing thread", f"{cpu:.0f}", f"{1e9 / cpu:,.0f}"],
                    ["elapsed, the loop's share on the same core included", f"{wall:.0f}", f"{1e9 / wall:,.0f}"],
                ],
            ),
            Table(
                "CPU time inside publish",
                [
                    ["subscribers", "alone", "together", "cold"],
                    *(
                        [
                            f"{size:,}",
                            *(f"{each:,.0f} ns" for each in (point.alone, point.together, point.cold)),
                        ]
                        for size, point in points.items()
                    ),
                ],
            ),
        ],
    )


def publish_to_nobody(events: int) -> tuple[float, float]:
    """Return CPU and elapsed nanoseconds for one event."""
    event = Event(PAYLOAD)
    with Hub() as hub:
        publish = hub.publish
        publish(TOPIC, event)
        gc.collect()
        start, cpu = time.perf_counter_ns(), time.thread_time_ns()
        left = events
        while left:
            try:
                while left:
                    publish(TOPIC, event)
                    left -= 1
            except BusyError:
                # The loop has to catch up. The attempt's time counts, the event does not.
                time.sleep(0.001)
        return (time.thread_time_ns() - cpu) / events, (time.perf_counter_ns() - start) / events


def publish_to(subscribers: int, quick: bool) -> Point:
    """Return what a publish costs with so many subscribers."""
    event = Event(PAYLOAD)
    most = 10 if quick else min(MOST_PUBLISHES, DELIVERIES // max(subscribers, 1))
    # Not zeros: those would all be one page of the kernel's until they are written.
    walked = b"x" * (QUICK_WALK_BYTES if quick else WALK_BYTES)
    with Hub() as hub, subscribed(hub, subscribers, TOPIC):
        publish, sent = hub.publish, 0

        def measure(count: int, walk: bytes = b"") -> float:
            nonlocal sent
            walk.count(b"y")
            start = time.thread_time_ns()
            for _ in range(count):
                publish(TOPIC, event)
            spent = time.thread_time_ns() - start
            sent += count
            wait_for(hub, sent * subscribers)
            return spent / count

        measure(1)
        return Point(
            alone=median(measure(1) for _ in range(most)),
            together=median(measure(AT_ONCE) for _ in range(max(3, most // AT_ONCE))),
            cold=median(measure(1, walked) for _ in range(most)),
        )


def wait_for(hub: Hub, deliveries: int) -> None:
    """Return when so many deliveries were made."""
    deadline = time.monotonic() + DELIVERY_SECONDS
    while hub.stats()["events_delivered"] < deliveries:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{hub.stats()['events_delivered']} deliveries, not {deliveries}")
        time.sleep(0.0002)


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
