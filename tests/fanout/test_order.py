"""Cursors, merging and gaps: what a subscriber gets, and in which order."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sse_core.testing import Ledger

from .harness import BORN, Feed, feed, format_id


def test_a_fresh_subscriber_gets_what_comes_from_now_on() -> None:
    """Without an id to resume from, history is not replayed."""
    with feed() as f:
        f.publish()
        subscriber = f.subscribe()
        ids = [f.publish(), f.publish()]

        assert [event.id for event in subscriber.until(ids[-1])] == ids


def test_resume_is_exact() -> None:
    """A subscriber gets everything after the id that it names, once, in order, and then what is live."""
    with feed() as f:
        ids = [f.publish(data=str(i)) for i in range(10)]
        subscriber = f.subscribe(after=ids[3])
        ids += [f.publish(data=str(i)) for i in range(10, 20)]

        assert [event.id for event in subscriber.until(ids[-1])] == ids[4:]
        assert [event.data for event in subscriber.events] == [str(i) for i in range(4, 20)]


def test_zero_asks_for_all_that_is_left_without_a_gap() -> None:
    """`0-0` is no id that was ever given, so that nothing can have been lost since."""
    with feed(topic_options={"max_events": 2}) as f:
        ids = [f.publish() for _ in range(5)]
        subscriber = f.subscribe(after="0-0")

        assert [event.id for event in subscriber.until(ids[-1])] == ids[3:]
        assert subscriber.gaps == []


def test_several_topics_are_merged_in_the_order_of_ids() -> None:
    """A stream of several topics replays them interleaved as they were published, not topic by topic."""
    with feed("abc") as f:
        order = random.Random(1).choices("abc", k=300)
        ids = [f.publish(topic) for topic in order]
        subscriber = f.subscribe("abc", after="0-0")

        assert [event.id for event in subscriber.until(ids[-1])] == ids


def test_leaving_between_two_topics_loses_nothing() -> None:
    """A client that leaves after id 3 of one topic has seen id 2 of the other, so resuming from 3 is right."""
    with feed("ab") as f:
        ids = [f.publish(topic) for topic in "abab" * 200]
        received: list[str | None] = []
        after = "0-0"
        chunks = random.Random(2)
        while after != ids[-1]:
            subscriber = f.subscribe("ab", after=after)
            # A random number of bytes, mostly in the middle of an event, and the connection is gone.
            for _ in range(chunks.randint(1, 3)):
                if subscriber.parser.last_event_id != ids[-1]:
                    subscriber.receive(chunks.randint(20, 2000))
            received += [event.id for event in subscriber.events]
            after = subscriber.parser.last_event_id or after
            subscriber.socket.close()

        assert received == ids


def test_what_was_trimmed_is_told_with_the_last_lost_id() -> None:
    """A gap names topic, what was asked, the oldest event left and the reason; its own id is the last one lost."""
    with feed(topic_options={"max_events": 2}) as f:
        ids = [f.publish() for _ in range(6)]
        subscriber = f.subscribe(after=ids[1])
        subscriber.until(ids[-1])

        assert subscriber.gaps == [{"topic": "a", "asked": ids[1], "oldest": ids[4], "reason": "trimmed", "id": ids[3]}]
        assert subscriber.ids == ids[4:]


def test_an_id_at_the_floor_is_no_gap() -> None:
    """Whoever saw the last event that was trimmed has missed nothing."""
    with feed(topic_options={"max_events": 2}) as f:
        ids = [f.publish() for _ in range(6)]
        subscriber = f.subscribe(after=ids[3])
        subscriber.until(ids[-1])

        assert subscriber.gaps == []
        assert subscriber.ids == ids[4:]


def test_a_gap_comes_at_its_own_id_among_the_other_topics() -> None:
    """A gap of one topic does not overtake older events of another: whoever leaves after it would lose those."""
    with feed(()) as f:
        f.open("trimmed", max_events=1)
        f.open("whole")
        first = f.publish("trimmed")
        before = [f.publish("whole"), f.publish("whole")]
        lost = f.publish("trimmed")
        between = f.publish("whole")
        last = f.publish("trimmed")
        subscriber = f.subscribe(["trimmed", "whole"], after=first)
        subscriber.until(last)

        assert [(event.event, event.id) for event in subscriber.events] == [
            (None, before[0]),
            (None, before[1]),
            ("gap", lost),
            (None, between),
            (None, last),
        ]


def test_an_id_from_before_the_start_is_a_restart() -> None:
    """A process that was started anew cannot know what came before, and says so for every topic."""
    with feed("ab") as f:
        event = f.publish("b")
        subscriber = f.subscribe("ab", after="999-5")
        subscriber.until(event)

        assert subscriber.gaps == [
            {"topic": "a", "asked": "999-5", "oldest": None, "reason": "restart", "id": format_id(BORN)},
            {"topic": "b", "asked": "999-5", "oldest": event, "reason": "restart", "id": format_id(BORN)},
        ]


def test_an_id_from_the_future_is_unknown() -> None:
    """An id above the horizon was never given here: what is left is sent, after a gap."""
    with feed() as f:
        event = f.publish()
        subscriber = f.subscribe(after="99999-0")
        subscriber.until(event)

        assert [(gap["reason"], gap["asked"]) for gap in subscriber.gaps] == [("unknown-id", "99999-0")]
        assert subscriber.ids == [event]


def test_what_is_no_id_is_unknown() -> None:
    """A malformed id is answered by a gap too: a browser cannot be made to forget it."""
    with feed() as f:
        event = f.publish()
        subscriber = f.subscribe(unknown=True, after="0-0")
        subscriber.until(event)

        assert [(gap["reason"], gap["asked"]) for gap in subscriber.gaps] == [("unknown-id", None)]


def test_a_topic_of_its_name_in_json_is_escaped() -> None:
    """A topic's name cannot break out of the gap's JSON."""
    with feed(['quote"and\\'], topic_options={"max_events": 1}) as f:
        name = next(iter(f.numbers))
        ids = [f.publish(name) for _ in range(3)]
        subscriber = f.subscribe([name], after=ids[0])
        subscriber.until(ids[-1])

        assert [gap["topic"] for gap in subscriber.gaps] == [name]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("abc"), st.integers(0, 2000)),
        st.tuples(st.just("subscribe"), st.sets(st.sampled_from("abc"), min_size=1), st.integers(0, 30)),
        st.tuples(st.just("leave"), st.integers(0, 5), st.integers(1, 3000)),
    ),
    min_size=1,
    max_size=60,
)


class Client:
    """One subscriber across its reconnections, as a browser is."""

    def __init__(self, feed: Feed, ledger: Ledger, name: str, topics: list[str], after: str) -> None:
        self.feed, self.ledger, self.name, self.topics = feed, ledger, name, topics
        self.after = after
        ledger.subscribed(name, topics, after=after)
        self.subscriber = feed.subscribe(topics, after=after)

    def reconnect(self, size: int) -> None:
        """Read some bytes if there are any, drop the connection, and come back with the last id."""
        self.subscriber.socket.setblocking(False)
        with suppress(BlockingIOError):
            self.subscriber.receive(size)
        self.note()
        self.subscriber.socket.close()
        self.subscriber = self.feed.subscribe(self.topics, after=self.after)

    def note(self) -> None:
        """Enter what was received into the ledger."""
        for event in self.subscriber.events:
            self.ledger.received(self.name, event)
        self.after = self.subscriber.parser.last_event_id or self.after


@settings(max_examples=60, deadline=None)
@given(
    operations=OPERATIONS,
    max_events=st.sampled_from([3, 1000]),
    loops=st.integers(1, 2),
    ration=st.sampled_from([64, 1 << 18]),
)
def test_the_ledger_finds_no_fault_in_any_history(
    operations: list[tuple[str, Any, int]], max_events: int, loops: int, ration: int
) -> None:
    """However publishing, subscribing, leaving and resuming interleave: nothing is lost untold, twice, or out of order."""
    ledger = Ledger()
    with feed("abc", topic_options={"max_events": max_events}, loops=loops, ration=ration) as f:
        published: list[str] = []
        clients: list[Client] = []

        def publish(topic: str, size: int) -> str:
            published.append(f.publish(topic, "x" * size))
            ledger.published(topic, published[-1], "x" * size)
            return published[-1]

        for kind, argument, amount in operations:
            if kind == "publish":
                publish(argument, amount)
            elif kind == "subscribe":
                after = published[-amount] if 0 < amount <= len(published) else format_id(BORN)
                clients.append(Client(f, ledger, f"client {len(clients)}", sorted(argument), after))
            elif clients:
                clients[argument % len(clients)].reconnect(amount)
        last = {topic: publish(topic, 1) for topic in "abc"}
        for client in clients:
            client.subscriber.until(last[client.topics[-1]])
            client.note()

    assert ledger.faults() == []
    if max_events == 1000:
        assert ledger.told() == []
