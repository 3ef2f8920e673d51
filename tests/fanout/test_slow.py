"""Subscribers that do not keep up: partly sent frames, policies, bounds, timeouts, and fairness to the others."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import Feed, Subscriber, eventually, feed

SMALL = 4096


def block(f: Feed, topic: str = "a") -> tuple[Subscriber, list[str]]:
    """A subscriber that has stopped reading, and the ids published until its socket was full."""
    slow = f.subscribe([topic], buffer=SMALL)
    ids = []
    blocked = f.count("blocked")
    while f.count("blocked") == blocked:
        ids.append(f.publish(topic, "x" * 500))
    return slow, ids


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=30),
    reads=st.lists(st.integers(1, 10_000), min_size=1, max_size=10),
    seed=st.integers(0, 1000),
)
def test_frames_arrive_whole_however_the_socket_cuts_them(sizes: list[int], reads: list[int], seed: int) -> None:
    """A subscriber with a tiny socket, which reads a few bytes at a time, gets exactly the bytes of the log."""
    with feed("ab") as f:
        subscriber = f.subscribe("ab", buffer=SMALL)
        topics = random.Random(seed)
        published = [(f.publish(topics.choice("ab"), "x" * size), size) for size in sizes]
        turn = 0
        while subscriber.parser.last_event_id != published[-1][0]:
            assert subscriber.receive(reads[turn % len(reads)])
            turn += 1

        assert [(event.id, len(event.data or "")) for event in subscriber.events] == published
        eventually(lambda: f.count("events_delivered") == len(published))
        eventually(lambda: f.count("carried_bytes") == 0)


def test_disconnect_closes_who_lags_and_resume_replays() -> None:
    """Policy disconnect: a subscriber behind its bound is closed, and its last id brings back all that it missed."""
    with feed(topic_options={"lag": 20_000}) as f:
        slow, ids = block(f)
        while f.count("streams_ended_lagging") == 0:
            ids.append(f.publish(data="x" * 500))
        before = [event.id for event in slow.to_end()]
        again = f.subscribe(after=slow.parser.last_event_id)

        assert before + [event.id for event in again.until(ids[-1])] == ids
        assert again.gaps == []


def test_skip_jumps_to_the_tail_with_a_gap() -> None:
    """Policy skip: a subscriber behind its bound is told what it lost, and goes on at the newest event."""
    with feed(topic_options={"policy": "skip", "lag": 20_000}) as f:
        slow, ids = block(f)
        while f.count("events_skipped") == 0:
            ids.append(f.publish(data="x" * 500))
        # If the loop is slow enough to find all of that at once, this one is skipped too: the gap then ends with it.
        ids.append(f.publish(data="after"))
        slow.until(ids[-1])
        [gap] = slow.gaps

        assert gap["reason"] == "overflow"
        # Asked is the last one delivered, the gap's own id the last one lost, and between them lies what was skipped.
        assert ids.index(gap["id"]) - ids.index(gap["asked"]) == f.count("events_skipped")
        assert slow.ids == ids[: ids.index(gap["asked"]) + 1] + ids[ids.index(gap["id"]) + 1 :]
        assert f.engine.streams() == 1


def test_latest_sends_the_newest_only_after_a_block() -> None:
    """Policy latest: of what came while a subscriber was blocked it gets the newest event, and no gap."""
    with feed(topic_options={"policy": "latest"}) as f:
        slow, ids = block(f)
        ids += [f.publish(data="x" * 500) for _ in range(50)]
        eventually(lambda: f.count("events_appended") == len(ids))
        slow.until(ids[-1])

        assert slow.gaps == []
        assert slow.ids == [*ids[: len(slow.ids) - 1], ids[-1]]
        assert f.count("events_collapsed") == len(ids) - len(slow.ids) > 0


def test_latest_gives_a_new_subscriber_the_current_value_first() -> None:
    """Policy latest: a fresh subscriber starts with the current value, and its cursor is the horizon all the same."""
    with feed(()) as f:
        f.open("value", policy="latest")
        f.open("other")
        f.publish("value", "old")
        value = f.publish("value", "current")
        horizon = f.publish("other")
        subscriber = f.subscribe(["value", "other"])
        subscriber.until(horizon)

        assert [(event.id, event.data) for event in subscriber.events] == [(value, "current")]

        new = f.publish("value", "new")

        assert [event.id for event in subscriber.until(new)] == [value, new]


@pytest.mark.parametrize("policy", ["disconnect", "skip"])
def test_a_log_that_is_full_applies_the_policy_too(policy: str) -> None:
    """A blocked subscriber cannot hold a log: what its topic no longer keeps, it loses by the policy's rule."""
    with feed(topic_options={"policy": policy, "max_events": 5}) as f:
        slow, ids = block(f)
        ids += [f.publish(data="x" * 500) for _ in range(200)]
        eventually(lambda: f.count("events_appended") == len(ids))
        eventually(lambda: f.count("history_events") == 5)

        if policy == "disconnect":
            slow.to_end()
            assert f.count("streams_ended_lagging") == 1
            assert slow.ids == ids[: len(slow.ids)]
        else:
            ids.append(f.publish())
            slow.until(ids[-1])
            [gap] = slow.gaps
            assert gap["reason"] == "overflow"
            assert slow.ids == ids[: ids.index(gap["asked"]) + 1] + ids[ids.index(gap["id"]) + 1 :]


def test_a_burst_larger_than_the_log_loses_nothing_for_who_reads() -> None:
    """A healthy subscriber gets every event, even if its topic keeps fewer than were published at once."""
    with feed("ab", topic_options={"max_events": 3}) as f:
        one, both = f.subscribe("a"), f.subscribe("ab")
        base = f.last
        items = [
            (i % 2, base + 1 + i, b"id: 1000-%d\ndata: x\n\n" % (base + 1 + i - (1000 << 20))) for i in range(1000)
        ]

        assert f.engine.append_many(items)
        last = f"1000-{base + 1000 - (1000 << 20)}"
        both.until(last)
        one.until(f"1000-{base + 999 - (1000 << 20)}")

        assert (len(one.events), len(both.events)) == (500, 1000)


def test_a_long_replay_is_rationed() -> None:
    """A subscriber that replays much gets a bounded number of bytes in each turn, and all of them in the end."""
    with feed(ration=10_000) as f:
        ids = [f.publish(data="x" * 1000) for _ in range(200)]
        subscriber = f.subscribe(after="0-0")

        assert [event.id for event in subscriber.until(ids[-1])] == ids
        assert f.count("rationed") >= 10


def test_a_frame_larger_than_the_ration_is_sent_whole() -> None:
    """The ration bounds a turn, not the size of an event."""
    with feed(ration=100) as f:
        ids = [f.publish(data="x" * 5000) for _ in range(3)]
        subscriber = f.subscribe(after="0-0")

        assert [len(event.data or "") for event in subscriber.until(ids[-1])] == [5000] * 3


def test_a_blocked_subscriber_does_not_delay_the_others() -> None:
    """Who does not read is left behind; who reads gets everything meanwhile."""
    with feed() as f:
        slow, ids = block(f)
        quick = f.subscribe()
        ids = [f.publish() for _ in range(100)]

        assert [event.id for event in quick.until(ids[-1])] == ids
        assert not slow.ended


@pytest.mark.parametrize("keepalive", [200, 3_600_000])
def test_who_stays_blocked_is_gone_after_the_send_timeout(keepalive: int) -> None:
    """A subscriber that takes nothing for `send_timeout` is closed, whatever its socket says and however long the keepalive."""
    with feed(send_timeout_ms=200, keepalive_ms=keepalive) as f:
        slow, _ = block(f)

        f.settle(0)
        assert f.count("streams_ended_timeout") == 1
        assert not slow.ended


def test_all_logs_together_are_bounded() -> None:
    """Beyond the bytes of all logs the largest log gives, and who resumes there is told."""
    with feed("ab", history_bytes=20_000) as f:
        small = f.publish("b", "small")
        first = f.publish("a", "x" * 1000)
        for _ in range(100):
            f.publish("a", "x" * 1000)
        eventually(lambda: f.count("events_appended") == 102)
        eventually(lambda: f.count("history_bytes") <= 20_000)
        subscriber = f.subscribe("ab", after="0-0")
        last = f.publish("a")
        subscriber.until(last)

        assert subscriber.ids[0] == small
        assert f.count("events_evicted_by_total") > 0
        trimmed = f.subscribe("a", after=first)
        trimmed.until(last)
        assert [gap["reason"] for gap in trimmed.gaps] == ["trimmed"]


def test_old_history_is_dropped() -> None:
    """Events older than their topic's age are gone without anybody publishing; their ids say how old they are."""
    with feed(topic_options={"age_ms": 1000}) as f:
        ids = [f.publish() for _ in range(3)]
        eventually(lambda: f.count("events_evicted_by_age") == 3)
        subscriber = f.subscribe(after=ids[0])
        last = f.publish()
        subscriber.until(last)

        assert [gap["reason"] for gap in subscriber.gaps] == ["trimmed"]
        assert f.count("events_evicted_by_bound") == 0
