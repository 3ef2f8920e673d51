"""A hub in memory whose streams are drained: ``python -m benchmarks.children.growth STREAMS TOPICS BYTES LOOPS``.

Stream n is on topic n modulo TOPICS. Prints a line when all streams are open. Then, for each number read from standard
input, publishes so many events, to the topics by turns and each when the one before has reached its streams, and prints
what the publishes and the native threads took of the CPU, in nanoseconds, and how many deliveries were made.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from sse_core import BusyError, Event, Hub, TopicOptions

from ..drained import Give, drainer

WAIT_SECONDS = 60.0
#: Enough for the largest event that is measured, framed.
MOST_BYTES = 1 << 20
OPTIONS = TopicOptions(history_events=1_000, history_bytes=MOST_BYTES, lag_bytes=64 << 20)
AT_ONCE = 250


def main() -> None:
    """Run until standard input ends."""
    streams, topics, size, loops = map(int, sys.argv[1:])
    before = set(os.listdir("/proc/self/task"))
    event = Event("x" * size)
    with Hub(loops=loops, topics={"*": OPTIONS}, max_event_bytes=MOST_BYTES) as hub, drainer() as drain:
        # Starts what a hub starts.
        hub.publish("warm-up", event)
        native = set(os.listdir("/proc/self/task")) - before - {str(each.native_id) for each in threading.enumerate()}
        for at in range(0, streams, AT_ONCE):
            _subscribe(hub, drain, range(at, min(at + AT_ONCE, streams)), topics)
        _wait_for(hub, "streams", streams)
        print("ready", flush=True)
        turn = 0
        for line in sys.stdin:
            publishing, deliveries = 0, 0
            loops_before = _cpu_ns(native)
            for _ in range(int(line)):
                topic = turn % topics
                turn += 1
                due = streams // topics + (topic < streams % topics)
                expected = hub.stats()["events_delivered"] + due
                publishing += _publish(hub, f"topic/{topic}", event)
                _wait_for(hub, "events_delivered", expected)
                deliveries += due
            told = {"publish_ns": publishing, "loop_ns": _cpu_ns(native) - loops_before, "deliveries": deliveries}
            print(json.dumps(told), flush=True)


def _publish(hub: Hub, topic: str, event: Event) -> int:
    while True:
        start = time.thread_time_ns()
        try:
            hub.publish(topic, event)
        except BusyError:
            time.sleep(0.001)
            continue
        return time.thread_time_ns() - start


def _subscribe(hub: Hub, drain: Give, numbers: range, topics: int) -> None:
    ends: list[socket.socket] = []
    try:
        for number in numbers:
            ours, drained = socket.socketpair()
            ends.append(drained)
            ours.setblocking(False)
            stream = hub.subscribe(f"topic/{number % topics}")
            if hub.open_stream(stream) is None:
                raise RuntimeError("the hub has no room for another stream")
            hub.adopt(stream, ours)
        drain([end.fileno() for end in ends])
    finally:
        for end in ends:
            end.close()


def _wait_for(hub: Hub, name: str, value: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := hub.stats()[name]) < value:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} {name}, not {value}")
        # Gives way to the loops and is no part of what is counted.
        time.sleep(0)
    if found > value:
        raise RuntimeError(f"{found} {name}, more than {value}")


def _cpu_ns(threads: set[str]) -> int:
    return sum(int(Path("/proc/self/task", each, "schedstat").read_text().split()[0]) for each in threads)


if __name__ == "__main__":
    main()
