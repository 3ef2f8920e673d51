"""One order out of live messages and fetched history, whatever is lost, repeated or late on the way."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_core import Event, LimitError, TopicOptions
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
        self.last, self.kept, self.given, self.tails = replica  # type: ignore[assignment]

    # ---- as a Source ----

    def clock(self) -> Clock:
        self.beat()
        return Clock(self.last, self.born)

    def history(self, wanted: Sequence[Wanted], until: int) -> list[History]:
        if self.fails:
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

    def __init__(self) -> None:
        self.horizon = 0
        self.logs: dict[str, list[int]] = {}
        self.floors: dict[str, int] = {}
        self.told: list[tuple[str, int, Reason]] = []
        self.order: list[int] = []
        self.rooms = deque([True])
        self.most_topics = len(TOPICS)

    def options(self, topic: str) -> TopicOptions:
        return TopicOptions(history_events=5)

    def has_room(self) -> bool:
        self.rooms.rotate()
        return self.rooms[0]

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        return self.deliver_many([(topic, number, event)])

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
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

    def presence(self) -> dict[tuple[str, str], int]:
        return {}

    def fill(self, topic: str, floor: int, items: Sequence[tuple[int, Event]]) -> bool:
        if len(self.logs) == self.most_topics:
            raise LimitError("max_topics", self.most_topics)
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
        self.receiver = Receiver()
        self.feed = Feed(self.receiver, self.redis, lambda: None)
        self.receiver.horizon = self.feed.begin().horizon

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


topics = st.sampled_from(TOPICS)
publish = st.tuples(st.just("publish"), topics, st.integers(1, 3))
happenings = st.one_of(
    # More often than the rest: it takes events of several topics between two other things for something to go wrong.
    publish,
    publish,
    publish,
    st.tuples(st.just("read"), st.integers(1, 5)),
    st.tuples(st.just("open"), topics, st.integers(0, 2)),
    st.tuples(st.just("leave"), topics),
    st.tuples(st.just("reconnect"), st.lists(topics, max_size=4)),
    st.tuples(st.just("drop"), topics),
    st.tuples(st.just("beat")),
    st.tuples(st.just("trim"), topics, st.integers(0, 2)),
    st.tuples(st.just("reset")),
)


@settings(max_examples=800, deadline=None)
@given(st.lists(happenings, min_size=20, max_size=60), st.lists(st.booleans(), max_size=5))
def test_nothing_is_lost_silently_whatever_happens(what: list[tuple[object, ...]], rooms: list[bool]) -> None:
    """After any mixture of lost messages and connections, late subscriptions, trimming and resets, logs equal history."""
    world = World()
    world.receiver.rooms = deque([*rooms, True])
    for name, *arguments in what:
        (getattr(world.redis, str(name), None) or getattr(world, str(name)))(*arguments)
    world.settle()
    world.check()


class TestLive:
    """Messages as they come."""

    def test_a_message_that_is_known_already_is_dropped_and_counted(self) -> None:
        """What was fetched and then arrives live, too, is delivered once."""
        world = World()
        world.open("a", between=2)
        world.settle()

        assert world.feed.counts["backplane_duplicates"] == 2
        world.check()

    def test_a_hole_is_filled_before_anything_else_goes_on(self) -> None:
        """An event whose predecessor is missing makes the process fetch it, and both come in order."""
        world = World()
        world.open("a")
        world.drop("a")
        world.settle()

        assert world.feed.counts["backplane_holes"] == 1
        assert world.receiver.told == []
        world.check()

    def test_a_hole_that_cannot_be_filled_is_told(self) -> None:
        """What was trimmed while it was missing is a gap with the last lost id."""
        world = World()
        world.open("a")
        world.drop("a")
        world.redis.trim("a", 1)
        lost = world.redis.kept["a"][0].before
        world.settle()

        assert world.receiver.told == [("a", lost, "trimmed")]
        world.check()

    def test_a_hole_below_what_was_told_complete_is_a_loss(self) -> None:
        """An event that went missing before a beat is told as a gap, since it cannot come in its order any more."""
        world = World()
        world.open("a")
        world.redis.publish("a")
        world.redis.queue.pop()
        world.redis.beat()
        complete = world.redis.last
        world.settle()

        assert world.receiver.told == [("a", complete, "overflow")]
        world.check()

    def test_an_event_beside_the_feed_is_not_delivered(self) -> None:
        """What a primary does that slept through its fail-over is no event of the feed, though its id is new."""
        world = World()
        world.open("a")
        world.redis.publish("a")
        forked = world.redis.last
        world.redis.publish("a")
        world.settle()
        delivered = list(world.receiver.order)
        world.feed.live("a", [Entry(world.redis.last + 5, forked, Event("phantom"))])

        assert world.feed.counts["backplane_forks"] == 1
        assert world.receiver.order == delivered
        world.settle()
        world.check()


class TestFill:
    """Topics that are taken up while others flow."""

    def test_a_new_topic_does_not_overtake_the_others(self) -> None:
        """History above the horizon waits until the live feed has come that far, so a stream of both sees one order."""
        world = World()
        world.open("a")
        world.settle()
        world.redis.publish("a")
        world.redis.publish("b")
        world.open("b")
        waiting = world.redis.tails["b"]

        assert waiting not in world.receiver.logs["b"]
        world.settle()
        assert waiting in world.receiver.logs["b"]
        world.check()

    def test_what_waits_survives_a_fetch_that_fails(self) -> None:
        """When Redis goes away in the middle of catching up, nothing that was fetched before is lost."""
        world = World()
        world.open("a")
        world.redis.publish("b")
        world.open("b")
        world.redis.fails = True
        with pytest.raises(ConnectionError):
            world.reconnect()
        world.redis.fails = False
        world.reconnect()
        world.settle()

        assert world.receiver.told == []
        world.check()

    def test_what_is_open_is_not_fetched_again(self) -> None:
        """Filling a topic that is complete here asks Redis for nothing."""
        world = World()
        world.open("a")
        fetches = world.feed.counts["backplane_fetches"]
        world.feed.fill(["a", "a"])

        assert world.feed.counts["backplane_fetches"] == fetches

    def test_a_receiver_without_place_refuses_that_topic_alone(self) -> None:
        """The bound on topics is answered for the topic that is beyond it; the others are filled."""
        world = World()
        world.receiver.most_topics = 1

        assert list(world.feed.fill(["a", "b"])) == ["b"]
        assert world.feed.topics == ["a"]


class TestRestart:
    """Feeds that are not what they were."""

    def test_an_empty_redis_is_another_feed(self) -> None:
        """When Redis comes back empty every stream is told, with the reason restart, and then goes on."""
        world = World()
        world.open("a")
        world.redis.publish("a")
        world.settle()
        world.redis.reset()
        world.reconnect(["a"])
        world.settle()

        assert ("a", world.redis.born, "restart") in world.receiver.told
        world.check()

    def test_a_clock_that_went_back_is_another_feed(self) -> None:
        """After a fail-over to a server whose clock is behind, ids that would be dropped as known are told instead."""
        world = World()
        world.open("a")
        world.settle()
        replica = world.redis.copy()
        for _ in range(5):
            world.settle()
        world.redis.promote(replica)
        world.reconnect()
        world.redis.publish("a")
        world.settle()

        assert [reason for _, _, reason in world.receiver.told] == ["restart"]
        assert world.receiver.logs["a"][-1] == world.redis.tails["a"]
