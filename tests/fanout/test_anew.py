"""History that is given to the engine, a horizon that moves without events, and logs that begin anew."""

from __future__ import annotations

import pytest

from sse_core import Event
from sse_core.framing import frame
from sse_core.ids import format_id
from tests.fanout.harness import BORN, Feed, eventually, feed


def fill(f: Feed, topic: str, *offsets: int, floor: int = BORN) -> list[str]:
    """Open a topic with events that lie so far above the beginning."""
    f.open(topic, floor=floor)
    ids = [format_id(BORN + offset) for offset in offsets]
    items = [
        (f.numbers[topic], BORN + offset, frame(Event("old"), text)) for offset, text in zip(offsets, ids, strict=True)
    ]
    assert f.engine.append_many(items, history=True)
    return ids


def test_history_can_be_given_below_the_horizon() -> None:
    """A topic that is opened with its history serves one who resumes in it, while other topics are far ahead."""
    with feed("a") as f:
        f.last += 100
        f.publish("a")
        ids = fill(f, "b", 10, 20, 30)
        last = f.publish("b")
        subscriber = f.subscribe(("a", "b"), after=ids[0])
        subscriber.until(last)

        assert subscriber.ids == [*ids[1:], format_id(BORN + 101), last]
        assert subscriber.gaps == []


def test_history_does_not_move_the_horizon() -> None:
    """What silent streams are told to be complete is what came live, not what was fetched for a new topic."""
    with feed("a", keepalive_ms=200) as f:
        last = f.publish("a")
        fill(f, "b", 1000)
        subscriber = f.subscribe("a")
        while b"id:" not in subscriber.raw:
            subscriber.receive()

        assert subscriber.parser.last_event_id == last


def test_a_silent_stream_is_told_a_horizon_without_event() -> None:
    """The horizon moves while nothing happens, and the next keepalive carries it."""
    with feed("a", keepalive_ms=200) as f:
        subscriber = f.subscribe("a")
        f.engine.advance(BORN + 77)
        subscriber.until(format_id(BORN + 77))

        assert subscriber.events == []


@pytest.mark.parametrize("reason", ["trimmed", "restart", "overflow"])
def test_a_forgotten_history_is_told_to_those_who_listen(reason: str) -> None:
    """Who was up to date gets what was already given, then a gap with the new floor, then what comes."""
    with feed("a") as f:
        first = f.publish()
        subscriber = f.subscribe(after=format_id(BORN))
        subscriber.until(first)
        second = f.publish()
        f.last += 50
        f.engine.forget(0, f.last, reason)  # type: ignore[arg-type]
        floor = format_id(f.last)
        last = f.publish()
        subscriber.until(last)

        assert subscriber.ids == [first, second, last]
        assert subscriber.gaps == [
            {"topic": "a", "asked": second, "oldest": subscriber.gaps[0]["oldest"], "reason": reason, "id": floor}
        ]
        assert f.count(f"gaps_{reason}") == 1


def test_who_resumes_before_a_new_floor_is_told() -> None:
    """After a log began anew, an id below its floor is a gap, and one at the floor is not."""
    with feed("a") as f:
        old = f.publish()
        f.last += 50
        f.engine.forget(0, f.last, "trimmed")
        floor = format_id(f.last)
        last = f.publish()
        late, exact = f.subscribe(after=old), f.subscribe(after=floor)
        late.until(last)
        exact.until(last)

        assert [gap["id"] for gap in late.gaps] == [floor]
        assert exact.gaps == []


def test_a_topic_with_policy_latest_has_no_gaps() -> None:
    """Only the current value counts there, so nothing is lost when the log begins anew."""
    with feed("a", topic_options={"policy": "latest"}) as f:
        f.publish()
        subscriber = f.subscribe()
        f.engine.forget(0, f.last + 10, "restart")
        f.last += 10
        last = f.publish()
        subscriber.until(last)

        assert subscriber.gaps == []


def test_a_slow_stream_is_told_what_it_lost_when_the_log_began_anew() -> None:
    """A blocked stream gets the frame that was under way whole, then the gap, then what follows."""
    with feed("a") as f:
        subscriber = f.subscribe(buffer=4096)
        first = f.publish(data="x" * 100_000)
        eventually(lambda: f.count("blocked") == 1)
        f.publish()
        f.engine.forget(0, f.last + 10, "restart")
        f.last += 10
        last = f.publish()
        subscriber.until(last)

        assert subscriber.ids == [first, last]
        assert [gap["asked"] for gap in subscriber.gaps] == [first]


def test_a_feed_can_begin_anew_with_lower_ids() -> None:
    """After a restart with a clock that is behind, events with lower ids are delivered, and old ids are unknown."""
    with feed("a") as f:
        f.last += 1000
        old = f.publish()
        f.engine.forget(0, BORN + 10, "restart")
        f.engine.restart(BORN + 5, BORN + 10)
        f.last = BORN + 10
        subscriber, early = f.subscribe(after=old), f.subscribe(after=format_id(BORN + 2))
        last = f.publish()
        subscriber.until(last)
        early.until(last)

        assert [gap["reason"] for gap in subscriber.gaps] == ["unknown-id"]
        assert [gap["reason"] for gap in early.gaps] == ["restart"]


def test_a_topic_with_history_can_be_closed() -> None:
    """A topic that nobody listens to gives its memory back when it is closed."""
    with feed("ab") as f:
        f.publish("a", "x" * 1000)
        eventually(lambda: f.engine.topic_state(0)[1] == 1 and f.engine.topic_state(0)[3])
        f.engine.close_topic(0)
        eventually(lambda: f.count("topics") == 1)

        assert f.count("history_bytes") == 0
