"""The turn of a loop: mail, keepalives, ends, drain; and that nothing is left when it stops."""

from __future__ import annotations

import os
import socket

import pytest

from sse_core.fanout.engine import COUNTERS, STREAM_BYTES, Engine, is_gauge

from .harness import BORN, eventually, feed, format_id


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_an_idle_stream_fits_in_a_small_chunk() -> None:
    """A stream of one topic is one struct of at most 152 bytes: with malloc's own 8 that is a chunk of 160."""
    assert STREAM_BYTES <= 152


def test_everything_is_given_back() -> None:
    """Closing an engine closes every descriptor that it opened or adopted, streams in all states included."""
    before = descriptors()
    with feed("ab", loops=2) as f:
        subscribers = [f.subscribe("ab") for _ in range(20)]
        subscribers += [f.subscribe(buffer=4096) for _ in range(5)]
        for _ in range(100):
            f.publish(data="x" * 1000)
        subscribers[0].socket.close()
        eventually(lambda: f.count("blocked") > 0)
        f.engine.drain(10_000)
    for subscriber in subscribers:
        subscriber.socket.close()

    assert descriptors() == before


def test_descriptors_in_unread_mail_are_closed() -> None:
    """A connection that was posted to a loop which stops is not forgotten: its client sees the end."""
    with feed() as f:
        f.engine.stop()
        with pytest.raises(RuntimeError, match="stopped"):
            f.subscribe()


def test_all_loops_get_an_event_or_none() -> None:
    """An event for which one mailbox has no room is posted to none, and the publisher hears of it."""
    with feed(loops=2, mailbox_bytes=4096) as f:
        subscribers = [f.subscribe() for _ in range(2)]

        assert not f.engine.append_many([(0, BORN + 1 + i, b"data: x\n\n" * 100) for i in range(10)])
        last = f.publish()
        assert [[event.id for event in s.until(last)] for s in subscribers] == [[last], [last]]


def test_every_loop_delivers_to_its_own_subscribers() -> None:
    """With several loops the subscribers are spread over them, and each gets everything."""
    with feed(loops=3) as f:
        subscribers = [f.subscribe() for _ in range(9)]
        ids = [f.publish() for _ in range(50)]

        assert all([event.id for event in s.until(ids[-1])] == ids for s in subscribers)
        assert f.count("events_appended") == 3 * len(ids)
        assert f.count("events_published") == len(ids)


def test_silence_is_broken_by_the_horizon() -> None:
    """The keepalive of a caught-up stream is a block with only the current id: the client's cursor never ages."""
    with feed("ab", keepalive_ms=150) as f:
        quiet = f.subscribe("a")
        last = f.publish("b")
        quiet.until(last)

        assert quiet.events == []
        assert quiet.raw.endswith(f"id: {last}\n\n".encode())


def test_keepalives_of_many_streams_are_spread_over_turns() -> None:
    """However many streams are silent at once, each is told, a bounded number in one turn."""
    with feed(keepalive_ms=200) as f:
        subscribers = [f.subscribe() for _ in range(700)]
        for subscriber in subscribers:
            subscriber.until(format_id(BORN))

        assert f.count("keepalives") >= 700


def test_a_client_that_leaves_is_noticed() -> None:
    """The end of a client's input is the end of its stream, without anything being sent to it."""
    with feed() as f:
        assert f.engine.ended() == []
        subscriber = f.subscribe()
        f.settle(1)
        subscriber.socket.shutdown(socket.SHUT_WR)
        subscriber.to_end()

        f.settle(0)
        assert f.count("streams_ended_client") == 1
        ends = []
        eventually(lambda: bool(ends.extend(f.engine.ended()) or ends))
        [(tag, reason, seconds, events, size, request_id)] = ends
        assert (tag, reason, events, size, request_id) == (1, "client", 0, 0, None)
        assert seconds >= 0


def test_the_end_of_a_stream_tells_what_it_got() -> None:
    """Events, bytes and the request id of a stream are told with its end, whichever way its events were sent."""
    with feed("ab") as f:
        assert f.engine.ended() == []
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        f.engine.adopt(theirs.fileno(), 7, [0], f.last, fresh=True, request_id=b"0123456789abcdef")
        theirs.detach()
        f.settle(1)
        both = f.subscribe("ab")
        f.publish("a", "one")
        last = f.publish("a", "two")
        alone = f.publish("b", "three")
        both.until(alone)
        received = b""
        while last.encode() not in received:
            received += ours.recv(65536)
        both.socket.close()
        ours.close()
        f.settle(0)
        ends: dict[int, tuple[object, ...]] = {}
        eventually(lambda: bool(ends.update({each[0]: each for each in f.engine.ended()}) or len(ends) == 2))

        assert ends[7][3:] == (2, len(received), "0123456789abcdef")
        assert ends[2][3:] == (3, len(both.raw), None)
        assert f.count("events_delivered") == 5


def test_latency_and_turns_are_timed() -> None:
    """Each event that somebody listens to is timed from the mailbox to the sockets, and so is each turn of the loop."""
    with feed("ab", loops=2) as f:
        subscribers = [f.subscribe("a") for _ in range(4)]
        f.settle(4)
        f.publish("b", "nobody")
        for _ in range(1500):
            last = f.publish("a")
        for subscriber in subscribers:
            subscriber.until(last)
        eventually(lambda: f.engine.histograms()["latency"][1] == 2 * 1500)
        buckets, count, total = f.engine.histograms()["latency"]

        assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
        assert [number for _, number in buckets] == sorted(number for _, number in buckets)
        assert buckets[-1][1] <= count
        assert total > 0
        assert f.engine.histograms()["turns"][1] >= 2


def test_lag_is_that_of_the_blocked_stream_furthest_behind() -> None:
    """A subscriber that does not read is counted as blocked, with how far it is behind, until it is gone."""
    with feed() as f:
        slow, fast = f.subscribe(buffer=4096), f.subscribe()
        f.settle(2)
        for _ in range(200):
            last = f.publish(data="x" * 1000)
        fast.until(last)
        eventually(lambda: f.count("streams_blocked") == 1)
        eventually(lambda: f.count("lag_bytes") > 50_000)

        slow.socket.close()
        f.settle(1)
        eventually(lambda: f.count("streams_blocked") == 0)
        eventually(lambda: f.count("lag_bytes") == 0)


def test_what_a_client_sends_is_discarded() -> None:
    """Garbage after a request does not disturb a stream, and is counted."""
    with feed() as f:
        subscriber = f.subscribe()
        subscriber.socket.sendall(b"\x00garbage" * 10_000)
        last = f.publish()
        subscriber.until(last)

        eventually(lambda: f.count("input_bytes_discarded") == 80_000)
        assert f.engine.streams() == 1


@pytest.mark.parametrize("ring_from", [1], indirect=True)  # nothing is sent: once is enough
def test_ends_that_nobody_asks_for_are_counted() -> None:
    """The queue of ended streams is bounded, and what did not fit is a number, once somebody has begun to ask."""
    with feed() as f:
        f.subscribe().socket.close()
        eventually(lambda: f.count("streams_adopted") == 1)
        f.settle(0)
        assert f.engine.ended() == []
        for i in range(131_090):
            f.subscribe().socket.close()
            if i % 1000 == 0:
                # Each holds a descriptor until the loop has seen that its client is gone.
                eventually(lambda: f.engine.places() == 0)
        f.settle(0)
        eventually(lambda: f.count("streams_ended_client") + f.count("streams_ended_error") == 131_091)

        assert len(f.engine.ended()) == 131_072
        assert f.count("ends_unreported") == 131_090 - 131_072


def test_a_drain_is_paced_and_tells_each_when_to_come_back() -> None:
    """Draining closes streams one after another, each with a reconnection time of its own within the bounds."""
    with feed(drain_retry=(100, 900)) as f:
        subscribers = [f.subscribe() for _ in range(100)]
        f.settle(100)
        last = f.publish(data="before")
        f.engine.drain(300)
        ended_at_once = f.count("streams_ended_drained")
        for subscriber in subscribers:
            subscriber.to_end()
            subscriber.socket.close()

        assert ended_at_once < 100
        assert {s.parser.last_event_id for s in subscribers} == {last}
        retries = [s.parser.retry or 0 for s in subscribers]
        assert len(set(retries)) > 20
        assert 100 <= min(retries) <= max(retries) <= 900
        f.settle(0)
        assert f.count("streams_ended_drained") == 100


def test_a_drain_finishes_what_is_due_first() -> None:
    """A stream that is drained in the middle of a replay ends between two events, never within one."""
    with feed(ration=5000) as f:
        ids = [f.publish(data="x" * 1000) for _ in range(500)]
        subscriber = f.subscribe(after="0-0")
        f.engine.drain(0)
        received = [event.id for event in subscriber.to_end()]

        assert received == ids[: len(received)]
        assert subscriber.raw.endswith(b"\n\n")


def test_a_blocked_stream_does_not_outlive_a_drain() -> None:
    """A client that does not read cannot hold a worker that stops."""
    with feed() as f:
        slow = f.subscribe(buffer=4096)
        while f.count("blocked") == 0:
            f.publish(data="x" * 500)
        f.engine.drain(0)

        f.settle(0)
        assert not slow.ended


def test_who_comes_during_a_drain_is_sent_away_softly() -> None:
    """A connection adopted while draining gets a reconnection time and its end, not silence."""
    with feed() as f:
        f.engine.drain(60_000)
        late = f.subscribe()

        assert late.to_end() == []
        assert 1000 <= (late.parser.retry or 0) <= 5000
        assert f.count("streams_refused") == 1


def test_idle_topics_can_be_closed() -> None:
    """A topic is idle once nobody listens, its history is gone and no mail for it waits."""
    with feed("ab", topic_options={"age_ms": 1000}) as f:
        subscriber = f.subscribe("b")
        f.publish("a")
        eventually(lambda: f.engine.topic_state(0) == (0, 0, 0, True))

        assert f.engine.topic_state(1)[0] == 1

        f.engine.close_topic(0)
        eventually(lambda: f.count("topics") == 1)
        f.open("c")
        last = f.publish("b")
        assert [event.id for event in subscriber.until(last)] == [last]


def test_events_for_nobody_are_in_the_log_when_somebody_comes() -> None:
    """Publishing without subscribers need not wake a loop; whoever subscribes next finds the events all the same."""
    with feed() as f:
        eventually(lambda: f.engine.heartbeats()[0] > 0)
        ids = [f.publish() for _ in range(10)]
        subscriber = f.subscribe(after="0-0")

        assert [event.id for event in subscriber.until(ids[-1])] == ids


def test_a_loop_beats_while_nothing_happens() -> None:
    """The heartbeat of an idle loop moves, so that a stuck one can be told from it."""
    with feed() as f:
        before = f.engine.heartbeats()

        eventually(lambda: f.engine.heartbeats() > before)


def test_counters_have_names_and_kinds() -> None:
    """Every counter has one name, and gauges are known as such."""
    assert len(set(COUNTERS)) == len(COUNTERS)
    assert is_gauge("streams")
    assert not is_gauge("events_delivered")


def test_impossible_engines_are_refused() -> None:
    """An engine needs a loop and an id to begin after."""
    with feed() as f, pytest.raises(ValueError, match="1 to 1024 topics"):
        f.engine.adopt(0, 1, [], 0)
    with pytest.raises(ValueError, match="needs a loop"):
        Engine(
            loops=0,
            born=1,
            max_topics=1,
            keepalive_ms=1000,
            send_timeout_ms=1000,
            drain_retry=(0, 0),
            mailbox_bytes=4096,
            history_bytes=1,
            ration=1,
            gap_event=b"gap",
        )
