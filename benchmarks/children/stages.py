"""One way to read events from Redis: ``python -m benchmarks.children.stages URL STAGE``.

Subscribes to the topic that is named as the stage, and prints a line. Then, for each number read from standard input, reads
until an event whose data is `END`, checks how many there were before it if it looks into them, and prints the CPU time
that this thread took for that, in nanoseconds.
"""

from __future__ import annotations

import contextlib
import json
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import redis

from sse_core import Hub, MemoryBackplane
from sse_core.backplane import Beginning, Receiver
from sse_core.backplane.redis import commands
from sse_core.backplane.redis.commands import Clock, History, Wanted
from sse_core.backplane.redis.feed import Feed
from sse_core.backplane.redis.message import decode
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.topology import topology
from sse_core.event import Event
from sse_core.topics import TopicOptions

from ..drained import subscribed
from .feed import OPTIONS

REDIS_PY, SUBSCRIBER, DECODE, FEED, APPEND = STAGES = ("redis-py", "subscriber", "decode", "feed", "append")
#: Of the last stage.
STREAMS = 3
END = "end"
TIMEOUT = 30.0
PAUSE = 0.005

#: Waits for messages and returns them.
Receive = Callable[[], Sequence[bytes]]
#: Takes one message; returns how many events it has.
Take = Callable[[bytes], int]


class Nobody:
    """The part of a receiver that is used here. It drops what it is given."""

    def options(self, topic: str) -> TopicOptions:
        """See `Receiver.options`."""
        return TopicOptions()

    def fill(self, topic: str, floor: int, items: Sequence[tuple[int, Event]]) -> bool:
        """See `Receiver.fill`."""
        return True

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        """See `Receiver.deliver_many`."""
        return True


class Source:
    """Where the feed asks."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._client = client
        self._names = names

    def clock(self) -> Clock:
        """See `sse_core.backplane.redis.feed.Source`."""
        return commands.beat(self._client, self._names, interval_ms=0)

    def history(self, wanted: Sequence[Wanted], until: int) -> list[History]:
        """See `sse_core.backplane.redis.feed.Source`."""
        return commands.history(self._client, self._names, wanted, until)


class Fed(MemoryBackplane):
    """A backplane that is fed by whoever made it. What it does not need is that of one in memory."""

    joins_processes = True

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def start(self, receiver: Receiver) -> Beginning:
        """See `Backplane.start`."""
        self.feed = Feed(receiver, self._source, lambda: time.sleep(PAUSE))
        return self.feed.begin()

    def open(self, topics: Sequence[str]) -> None:
        """See `Backplane.open`."""
        self.feed.fill(topics)


def main() -> None:
    """Run until standard input ends."""
    url, stage = sys.argv[1:]
    names = Names("default")
    places = topology(url, timeout=TIMEOUT)
    with contextlib.ExitStack() as stack:
        stack.callback(places.close)
        receive = _with_redis_py(url, names.live(stage)) if stage == REDIS_PY else None
        if receive is None:
            subscriber = places.connect(names.namespace)
            stack.callback(subscriber.close)
            subscriber.subscribe([names.live(stage)])

            def receive() -> Sequence[bytes]:
                select.select([subscriber], [], [], TIMEOUT)
                return [cast(bytes, data) for _, _, data in subscriber.receive()]

            receive()
        take = stack.enter_context(_taking(stage, Source(places.client(names.namespace), names)))
        print("ready", flush=True)
        for line in sys.stdin:
            cpu, events = _read(receive, take)
            if take is not None and events != int(line) + 1:
                raise RuntimeError(f"{events - 1} events came, not {int(line)}")
            print(json.dumps({"cpu": cpu}), flush=True)


def _with_redis_py(url: str, channel: bytes) -> Receive:
    pubsub = redis.Redis.from_url(url, protocol=2).pubsub()
    pubsub.ssubscribe(channel)
    confirmation = pubsub.get_message(timeout=TIMEOUT)
    if confirmation is None or confirmation["type"] != "ssubscribe":
        raise RuntimeError(f"the subscription was not confirmed: {confirmation}")

    def receive() -> Sequence[bytes]:
        message = pubsub.get_message(timeout=TIMEOUT)
        return () if message is None else (message["data"],)

    return receive


@contextlib.contextmanager
def _taking(stage: str, source: Source) -> Iterator[Take | None]:
    """What a stage does with a message; None for nothing."""
    if stage in (REDIS_PY, SUBSCRIBER):
        yield None
    elif stage == DECODE:
        yield lambda payload: len(decode(payload))
    elif stage == FEED:
        feed = Feed(cast(Receiver, Nobody()), source, lambda: None)
        feed.begin()
        feed.fill([stage])
        yield _feeding(feed, stage)
    else:
        fed = Fed(source)
        with Hub(fed, topics={"*": OPTIONS}) as hub, subscribed(hub, STREAMS, stage):
            yield _feeding(fed.feed, stage)


def _feeding(feed: Feed, topic: str) -> Take:
    def take(payload: bytes) -> int:
        entries = decode(payload)
        feed.live(topic, entries)
        return len(entries)

    return take


def _read(receive: Receive, take: Take | None) -> tuple[int, int]:
    """Return the CPU time up to the end, and how many events there were, the end included."""
    end = END.encode()
    ended = False
    events = 0
    deadline = time.monotonic() + TIMEOUT
    start = time.thread_time_ns()
    while not ended:
        payloads = receive()
        # A part of a message is none yet.
        if not payloads and time.monotonic() > deadline:
            raise TimeoutError(f"the end did not come within {TIMEOUT} s")
        for payload in payloads:
            if take is not None:
                events += take(payload)
            ended = payload.endswith(end)
    return time.thread_time_ns() - start, events


if __name__ == "__main__":
    main()
