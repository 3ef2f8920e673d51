"""One order out of live messages and fetched history, whatever is lost, repeated or late on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_core import Event
from sse_core.backplane.redis.message import Entry
from tests.backplane.redis.model import TOPICS, World

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
    st.tuples(st.just("large"), topics),
    st.tuples(st.just("fail")),
    st.tuples(st.just("give_up"), st.integers(1, 3)),
)


@settings(max_examples=800, deadline=None)
@given(st.lists(happenings, min_size=20, max_size=60), st.lists(st.booleans(), max_size=5))
def test_nothing_is_lost_silently_whatever_happens(what: list[tuple[object, ...]], rooms: list[bool]) -> None:
    """After any mixture of losses, late subscriptions, trimming, resets and interruptions, logs equal history."""
    world = World()
    world.receiver.rooms = deque([*rooms, True])
    for name, *arguments in what:
        try:
            (getattr(world.redis, str(name), None) or getattr(world, str(name)))(*arguments)
        except ConnectionError:
            world.recover()
    world.patience = None
    world.recover()
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

    def test_a_loss_up_to_the_time_of_another_topic_s_event_does_not_hide_it(self) -> None:
        """A topic that has expired is lost up to a time, which may be the id of an event in another topic."""
        world = World()
        world.open("a")
        world.open("b")
        world.redis.publish("b")
        world.redis.tails["a"] = lost = world.redis.last
        world.reconnect()

        assert world.receiver.told == [("a", lost, "trimmed")]
        world.settle()
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
        world.redis.fail()
        with pytest.raises(ConnectionError):
            world.reconnect()
        world.reconnect()
        world.settle()

        assert world.receiver.told == []
        world.check()

    @pytest.mark.parametrize("happening", [World.reconnect, World.settle])
    def test_a_delivery_that_is_interrupted_goes_on_where_it_was(self, happening: Callable[[World], None]) -> None:
        """Of what waits, the part that was delivered is not delivered again, and the other part is not lost."""
        world = World()
        world.receiver.history_events = 1000
        world.open("a")
        world.redis.publish("a", 100)
        world.redis.publish("b", 200)
        world.open("b")
        # There is room for the first two batches, and then none.
        world.receiver.rooms = deque([False, True, True])
        world.give_up(1)
        with pytest.raises(ConnectionError):
            happening(world)
        assert 100 < len(world.receiver.order) < 300
        world.receiver.rooms = deque([True])
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
        assert world.feed.counts["backplane_forks"] == 0
        assert world.receiver.logs["a"][-1] == world.redis.tails["a"]
