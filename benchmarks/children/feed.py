"""A hub on Redis with drained streams: ``python -m benchmarks.children.feed URL STREAMS TOPIC...``.

Prints a line when all streams are open. Then, for each number of deliveries read from standard input, waits until so many
were made in all, and prints when that was and the CPU time of the thread that reads from Redis, both in nanoseconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from sse_core import Hub, RedisBackplane, TopicOptions

from ..drained import subscribed

WAIT_SECONDS = 60.0
POLL_SECONDS = 0.005
#: Who drains shares a core with Redis and the publisher. The usual 1,000 events are a few milliseconds at these rates, and a
#: stream that is further behind would be ended.
OPTIONS = TopicOptions(history_events=200_000, history_bytes=1 << 26, lag_bytes=1 << 26)
#: All of these are zero when every event came live, in order and once.
LOSSES = ("backplane_duplicates", "backplane_holes", "backplane_undeliverable", "backplane_reconnects")


def main() -> None:
    """Run until standard input ends."""
    url, streams, *topics = sys.argv[1:]
    with Hub(RedisBackplane(url), topics={"*": OPTIONS}) as hub, subscribed(hub, int(streams), topics):
        clock = next(
            time.pthread_getcpuclockid(thread.ident)
            for thread in threading.enumerate()
            if thread.name.startswith("sse-redis-") and thread.ident is not None
        )
        print("ready", flush=True)
        for line in sys.stdin:
            wait_for(hub, int(line))
            print(json.dumps({"at": time.monotonic_ns(), "reader_cpu": time.clock_gettime_ns(clock)}), flush=True)


def wait_for(hub: Hub, deliveries: int) -> None:
    """Return when so many deliveries were made. Raises `TimeoutError`, and `RuntimeError` for one too many or a loss."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (stats := hub.stats())["events_delivered"] < deliveries:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stats['events_delivered']} deliveries, not {deliveries}: {stats}")
        time.sleep(POLL_SECONDS)
    if stats["events_delivered"] > deliveries or any(stats[name] for name in LOSSES):
        raise RuntimeError(f"something came more than once, or got lost on the way: {stats}")


if __name__ == "__main__":
    main()
