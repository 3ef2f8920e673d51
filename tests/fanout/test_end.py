"""Finite topics in the engine: their streams end behind the last event, and are spared by a drain."""

from __future__ import annotations

import pytest

from tests.fanout.harness import BORN, TIMEOUT, eventually, feed

FINITE = {"finite": True}


def test_a_stream_ends_behind_the_last_event() -> None:
    """A subscriber of a finite topic gets the last event and then the end of the stream, whose reason is told."""
    with feed(topic_options=FINITE) as f:
        subscriber = f.subscribe()
        assert f.engine.ended() == []
        ids = [f.publish() for _ in range(3)]
        f.engine.end_topic(0)

        subscriber.to_end()
        assert subscriber.ids == ids
        subscriber.socket.close()
        eventually(lambda: f.engine.streams() == 0)
        assert [reason for _, reason, *_ in f.engine.ended()] == ["complete"]
        assert f.engine.counters()["streams_ended_complete"] == 1


def test_who_comes_late_gets_all_of_it_and_the_end() -> None:
    """A stream that begins after the end replays what it asks for, and ends, even with nothing to send."""
    with feed(topic_options=FINITE) as f:
        ids = [f.publish() for _ in range(5)]
        f.engine.end_topic(0)

        for seen in range(6):
            late = f.subscribe(after=ids[seen - 1] if seen else "0-0")
            late.to_end()
            assert late.ids == ids[seen:]


def test_a_stream_of_several_topics_ends_with_the_last_of_them() -> None:
    """With two finite topics the stream goes on after the first end, and with one that has no end it never ends."""
    with feed(("a", "b"), topic_options=FINITE) as f:
        f.open("endless")
        both = f.subscribe(("a", "b"))
        mixed = f.subscribe(("a", "endless"))
        f.publish("a")
        f.engine.end_topic(f.numbers["a"])
        second = f.publish("b")
        both.until(second)
        f.engine.end_topic(f.numbers["b"])
        both.to_end()
        last = f.publish("endless")
        mixed.until(last)

        assert both.ended
        assert not mixed.ended


def test_a_slow_client_gets_everything_before_the_end() -> None:
    """A client whose socket is full when the topic ends loses nothing: its stream ends when it has read all."""
    with feed(topic_options=FINITE) as f:
        subscriber = f.subscribe(buffer=1)
        ids = [f.publish(data="x" * 3000) for _ in range(50)]
        f.engine.end_topic(0)
        eventually(lambda: f.engine.counters()["blocked"] > 0)
        assert f.engine.streams() == 1

        subscriber.to_end()
        assert subscriber.ids == ids


def test_silence_on_a_finite_topic_is_broken_by_comments() -> None:
    """The keepalive of a stream that ends carries no id, so that its cursor is always an event of its own topic."""
    with feed(topic_options=FINITE, keepalive_ms=100) as f:
        subscriber = f.subscribe()
        subscriber.receive()

        assert subscriber.raw == b":\n\n"
        assert f.engine.counters()["keepalives"] == 1


def test_a_drain_spares_what_is_about_to_end() -> None:
    """While others are sent away, streams of finite topics are left alone, for as long as the drain allows."""
    with feed(("finite",), topic_options=FINITE) as f:
        f.open("endless")
        finite = f.subscribe(("finite",))
        endless = f.subscribe(("endless",))
        eventually(lambda: f.engine.streams() == 2)
        f.engine.drain(0, 60_000)
        endless.to_end()
        assert b"retry: " in endless.raw
        last = f.publish("finite")
        f.engine.end_topic(0)
        finite.to_end()

        assert finite.ids == [last]
        assert b"retry: " not in finite.raw


def test_what_takes_too_long_is_sent_away_too() -> None:
    """When the time to end is over, the rest is drained like all others."""
    with feed(topic_options=FINITE) as f:
        subscriber = f.subscribe()
        eventually(lambda: f.engine.streams() == 1)
        f.engine.drain(0, 50)
        subscriber.to_end()

        assert b"retry: " in subscriber.raw


def test_how_far_streams_are_can_be_measured() -> None:
    """`sent` is the id up to which every stream has been sent: of the slowest, and None where there is no stream."""
    with feed(topic_options=FINITE) as f:

        def sent() -> int | None:
            f.engine.measure(0)
            eventually(lambda: f.engine.topic_state(0)[3])
            return f.engine.sent(0)

        assert sent() is None
        quick = f.subscribe(after="0-0")
        for _ in range(50):
            f.publish(data="x" * 3000)
        quick.until(f.publish())
        assert sent() == f.last
        slow = f.subscribe(after="0-0", buffer=1)
        eventually(lambda: f.engine.streams() == 2)
        behind = sent()
        assert behind is not None
        assert BORN <= behind < f.last
        slow.socket.settimeout(TIMEOUT)
        while slow.parser.last_event_id != quick.parser.last_event_id:
            slow.receive()
        assert sent() == f.last


@pytest.mark.parametrize("late", [True, False])
def test_an_end_is_never_skipped(late: bool) -> None:
    """Under policy skip a client that cannot keep up is told a gap and then the end, even if it had skipped that, too."""
    with feed(topic_options={**FINITE, "policy": "skip", "lag": 1000}) as f:
        subscriber = f.subscribe(buffer=1)
        for _ in range(20):
            f.publish(data="x" * 3000)
        eventually(lambda: f.count("blocked") > 0)
        # A client that is blocked is looked at when something more has come.
        f.publish(data="x" * 3000)
        eventually(lambda: f.count("events_skipped") > 0)
        skipped = f.count("events_skipped")
        last = f.publish(data="x" * 3000)
        if late:
            eventually(lambda: f.count("events_skipped") > skipped)
        f.engine.end_topic(0)
        f.engine.measure(0)
        eventually(lambda: f.engine.topic_state(0)[3])
        subscriber.to_end()

        assert subscriber.ids[-1] == last
        assert len(subscriber.gaps) == 1
        assert f.count("events_skipped") + f.count("events_delivered") == 22
