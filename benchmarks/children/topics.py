"""Open quiet topics in a hub and print what they hold: ``python -m benchmarks.children.topics LOOPS TOPICS``."""

from __future__ import annotations

import json
import sys
import time

from sse_core import Hub

from ..memory_of import rss_anon

AT_ONCE = 100
WARM_UP = 100


def open_topics(hub: Hub, prefix: str, count: int) -> None:
    """Open ``count`` topics: a stream that asks for them does, before it is anybody's connection."""
    before = hub.stats().get("topics", 0)  # a hub that has not started has no such gauge
    names = [f"{prefix}/{number}" for number in range(count)]
    for at in range(0, count, AT_ONCE):
        hub.open_stream(hub.subscribe(names[at : at + AT_ONCE]))
    deadline = time.monotonic() + 30
    while hub.stats()["topics"] < before + count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{hub.stats()['topics']} topics were opened, not {before + count}")
        time.sleep(0.01)


def main() -> None:
    """Print the bytes of resident anonymous memory that one topic takes in all loops and in Python together."""
    loops, topics = map(int, sys.argv[1:])
    with Hub(loops=loops) as hub:
        # What the first topics bring into memory once is no topic's.
        open_topics(hub, "warm-up", WARM_UP)
        before = rss_anon("self")
        open_topics(hub, "quiet", topics)
        print(json.dumps((rss_anon("self") - before) / topics))


if __name__ == "__main__":
    main()
