"""A model of what a feed stands between: a Redis that loses and repeats, and a hub that checks what it is given."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence

from sse_core import Event, EventError, LimitError, TopicOptions
from sse_core.backplane import Reason
from sse_core.backplane.redis.commands import Clock, History, Wanted
from sse_core.backplane.redis.feed import Feed
from sse_core.backplane.redis.message import Entry

TOPICS = ("a", "b", "c")
STEP = 1 << 20


class Redis:
    """A model of the server: a clock, history, and one subscriber's connection."""

    def __init__(self) -> None:
        self.born = self.last = STEP
        self.kept: dict[str, list[Entry]] = {}
        #: Of each topic, all ids ever given since the feed was born, and those that can no longer be fetched.
        self.given: dict[str, list[int]] = {}
        self.tails: dict[str, int] = {}
        self.subscribed: set[str] = set()
        self.queue: deque[tuple[str, list[Entry]] | Clock] = deque()
        #: Whether the next fetch fails.
        self.fails = False

    def publish(self, topic: str, count: int = 1) -> None:
        entries = []
        for _ in range(count):
            self.last += 1
            before = self.tails.get(topic, self.born)
            entries.append(Entry(self.last, before, Event(f"{topic} {self.last}")))
            self.tails[topic] = self.last
        self.kept.setdefault(topic, []).extend(entries)
        self.given.setdefault(topic, []).extend(entry.number for entry in entries)
        if topic in self.subscribed:
            self.queue.append((topic, entries))

    def beat(self) -> None:
        self.last += STEP
        self.queue.append(Clock(self.last, self.born))

    def fail(self) -> None:
        self.fails = True

    def trim(self, topic: str, left: int) -> None:
        kept = self.kept.get(topic, [])
        del kept[: max(len(kept) - left, 0)]

    def reset(self) -> None:
        """Everything is gone, as after FLUSHALL; time goes on."""
        self.last += STEP
        self.born = self.last
        self.kept.clear()
        self.given.clear()
        self.tails.clear()

    def copy(self) -> tuple[object, ...]:
        """What a replica has at this moment."""
        return copy.deepcopy((self.last, self.kept, self.given, self.tails))

    def promote(self, replica: tuple[object, ...]) -> None:
        """That replica is the primary now."""
        self.last, self.kept, self.given, self.tails = replica

    # ---- as a Source ----

    def clock(self) -> Clock:
        self.beat()
        return Clock(self.last, self.born)

    def history(self, wanted: Sequence[Wanted], until: int) -> list[History]:
        if self.fails:
            self.fails = False
            raise ConnectionError
        return [self._history(each, until) for each in wanted]

    def _history(self, wanted: Wanted, until: int) -> History:
        kept = self.kept.get(wanted.topic, [])
        found = [entry for entry in kept if wanted.after < entry.number <= until][-wanted.max_events :]
        if found:
            return History(found[0].before, found)
        above = [entry.before for entry in kept if entry.number > until]
        floor = above[0] if above else min(self.tails.get(wanted.topic, self.born), until)
        return History(floor, [])


class Receiver:
    """A hub's logs, and what would be told to streams."""

    def __init__(self, server: Redis) -> None:
        self._server = server
        self.horizon = 0
        self.logs: dict[str, list[int]] = {}
        self.floors: dict[str, int] = {}
        self.told: list[tuple[str, int, Reason]] = []
        self.order: list[int] = []
        self.rooms = deque([True])
        self.most_topics = len(TOPICS)
        self.history_events = 5
        #: Ids of events that have no place here.
        self.large: set[int] = set()

    def options(self, topic: str) -> TopicOptions:
        return TopicOptions(history_events=self.history_events)

    def has_room(self) -> bool:
        self.rooms.rotate()
        return self.rooms[0]

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        return self.deliver_many([(topic, number, event)])

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        if self.large.intersection(number for _, number, _ in items):
            raise EventError("data", "too large")
        if not self.has_room():
            return False
        for topic, number, event in items:
            assert number > self.horizon, "below what streams were told to be complete"
            assert event.data == f"{topic} {number}"
            self.horizon = number
            self.logs[topic].append(number)
            self.order.append(number)
        return True

    def audience(self) -> dict[str, int]:
        return dict.fromkeys(self.logs, 0)

    def presence(self, topic: str | None = None) -> dict[tuple[str, str], int]:
        return {}

    def presence_changes(self) -> dict[tuple[str, str], int]:
        return {}

    def fill(self, topic: str, floor: int, items: Sequence[tuple[int, Event]]) -> bool:
        if len(self.logs) == self.most_topics:
            raise LimitError("max_topics", self.most_topics)
        if self.large.intersection(number for number, _ in items):
            raise EventError("data", "too large")
        if not self.has_room():
            return False
        assert topic not in self.logs
        self.logs[topic] = [number for number, _ in items]
        self.floors[topic] = floor
        assert all(floor < number <= self.horizon for number in self.logs[topic])
        return True

    def advance(self, horizon: int) -> None:
        self.horizon = max(self.horizon, horizon)

    def forget(self, topic: str, floor: int, reason: Reason) -> None:
        kept = self._server.kept.get(topic, [])[-self.history_events :]
        assert reason != "trimmed" or floor not in [entry.number for entry in kept], "told as lost, though it is there"
        assert (topic, floor, reason) not in self.told, "told twice"
        self.logs[topic].clear()
        self.floors[topic] = floor
        self.told.append((topic, floor, reason))

    def restart(self, born: int, horizon: int) -> None:
        for topic in self.logs:
            self.forget(topic, horizon, "restart")
        self.horizon = horizon

    def leave(self, topic: str) -> bool:
        del self.logs[topic], self.floors[topic]
        return True


class World:
    """A feed between the two, and everything that can happen to it."""

    def __init__(self) -> None:
        self.redis = Redis()
        self.receiver = Receiver(self.redis)
        self.feed = Feed(self.receiver, self.redis, self.pause)
        self.receiver.horizon = self.feed.begin().horizon
        #: How often the feed waits for room until it gives up, once; None: it never does.
        self.patience: int | None = None

    def pause(self) -> None:
        if self.patience is not None:
            self.patience -= 1
            if self.patience <= 0:
                self.patience = None
                raise ConnectionError

    def give_up(self, patience: int) -> None:
        """The feed is interrupted in the middle of a delivery."""
        self.patience = patience

    def large(self, topic: str) -> None:
        """An event comes that this process cannot take, alone or between others."""
        self.receiver.large.add(self.redis.last + 2)
        self.redis.publish(topic, 3)

    def read(self, count: int = 1) -> None:
        """Messages arrive."""
        for _ in range(min(count, len(self.redis.queue))):
            message = self.redis.queue.popleft()
            if isinstance(message, Clock):
                self.feed.beat(message)
            else:
                self.feed.live(*message)

    def open(self, topic: str, between: int = 0) -> None:
        """A topic is subscribed, perhaps events come in before it is filled."""
        self.redis.subscribed.add(topic)
        for _ in range(between):
            self.redis.publish(topic)
        self.feed.fill([topic])

    def leave(self, topic: str) -> None:
        if self.feed.has(topic):
            self.feed.leave(topic)
            self.redis.subscribed.discard(topic)

    def reconnect(self, meanwhile: Sequence[str] = ()) -> None:
        """The connection is lost with all that was under way, and comes back later."""
        self.redis.queue.clear()
        subscribed, self.redis.subscribed = self.redis.subscribed, set()
        for topic in meanwhile:
            self.redis.publish(topic)
        self.redis.subscribed = subscribed
        self.feed.catch_up()

    def recover(self) -> None:
        """After a failure it is tried again, until nothing fails any more."""
        while True:
            try:
                return self.reconnect()
            except ConnectionError:
                pass

    def drop(self, topic: str) -> None:
        """One message is lost without a sign, but the one after it arrives."""
        self.redis.publish(topic)
        if topic in self.redis.subscribed:
            self.redis.queue.pop()
        self.redis.publish(topic)

    def settle(self) -> None:
        """Everything arrives, and each topic gets one more event, so that a silent loss would be noticed."""
        for topic in self.feed.topics:
            self.redis.publish(topic)
        self.redis.beat()
        while self.redis.queue:
            self.read()

    def check(self) -> None:
        """Nothing is missing above a topic's floor, nothing is twice, and all of it came in one order."""
        for topic, log in self.receiver.logs.items():
            given = [number for number in self.redis.given.get(topic, []) if number > self.receiver.floors[topic]]
            assert log == given
        assert self.receiver.order == sorted(set(self.receiver.order))
