"""Ends of streams that somebody else decides: by the clock, by their number, by their topic."""

from __future__ import annotations

from tests.fanout.harness import Feed, eventually, feed


def ends(f: Feed) -> dict[str, int]:
    """How many streams have ended, by those reasons that have any."""
    counters = f.engine.counters()
    found = {name.removeprefix("streams_ended_"): value for name, value in counters.items() if "_ended_" in name}
    return {name: value for name, value in found.items() if value}


def test_a_stream_ends_when_its_time_is_over() -> None:
    """At its time a stream is told when to come back and ended; one without a time goes on."""
    with feed() as f:
        assert f.engine.ended() == []
        bound = f.subscribe(lasts_ms=50, tag=7)
        unbound = f.subscribe()
        bound.to_end()
        bound.socket.close()
        eventually(lambda: ends(f) == {"expired": 1})

        assert bound.raw.startswith(b"retry: ")
        assert (7, "expired") in [end[:2] for end in f.engine.ended()]
        assert unbound.until(f.publish()) != []


def test_nobody_ends_before_their_time() -> None:
    """A stream with a time far away, whatever the number, is a stream like any other."""
    with feed() as f:
        far = [f.subscribe(lasts_ms=ms) for ms in (3_600_000, 2**40, 2**63)]
        last = f.publish()

        assert [len(each.until(last)) for each in far] == [1, 1, 1]
        assert ends(f) == {}


def test_one_that_does_not_read_ends_at_its_time_too() -> None:
    """A blocked stream is not left open beyond its time: it is cut."""
    with feed() as f:
        blocked = f.subscribe(buffer=1, lasts_ms=1500)
        for _ in range(50):
            f.publish(data="x" * 3000)
        eventually(lambda: f.count("blocked") > 0 or ends(f) != {})
        eventually(lambda: ends(f) == {"expired": 1})
        blocked.to_end()

        assert b"retry: " not in blocked.raw


def test_streams_are_ended_by_their_numbers() -> None:
    """Those that are named end softly, on whatever loop they are; all others, and numbers of nobody, are left alone."""
    with feed(loops=2) as f:
        clients = {tag: f.subscribe(tag=tag) for tag in range(1, 9)}
        f.engine.evict([8, 999, 2, 5])
        for tag in (2, 5, 8):
            clients[tag].to_end()
            assert clients[tag].raw.startswith(b"retry: ")
            clients[tag].socket.close()
        eventually(lambda: ends(f) == {"revoked": 3})
        last = f.publish()

        for tag in (1, 3, 4, 6, 7):
            assert len(clients[tag].until(last)) == 1
        f.engine.evict([])
        f.settle(5)


def test_streams_are_ended_by_a_topic() -> None:
    """All streams that carry the topic end, also those that carry others; streams of other topics go on."""
    with feed("abc") as f:
        gone = [f.subscribe("a"), f.subscribe("ba"), f.subscribe("abc")]
        stay = [f.subscribe("b"), f.subscribe("cb")]
        f.engine.evict_topic(f.numbers["a"])
        for each in gone:
            each.to_end()
            each.socket.close()
        eventually(lambda: ends(f) == {"revoked": 3})
        last = f.publish("b")

        assert [len(each.until(last)) for each in stay] == [1, 1]


def test_what_waits_is_not_sent_to_who_is_ended() -> None:
    """History that an evicted stream was still to get is not sent any more, and a frame that was begun is finished."""
    with feed() as f:
        for _ in range(100):
            f.publish(data="x" * 3000)
        replaying = f.subscribe(after="0-0", tag=3, buffer=1)
        f.engine.evict([3])
        replaying.to_end()
        eventually(lambda: ends(f) == {"revoked": 1})

        # The end can come between two events or, as it was blocked, in one; it never comes after all of them.
        assert len(replaying.events) < 100


def test_a_drain_passes_over_who_has_been_ended() -> None:
    """A stream that was ended already is not ended once more by a drain, and its reason stays."""
    with feed() as f:
        f.engine.ended()
        client = f.subscribe(tag=1)
        f.engine.evict([1])
        f.engine.drain(0)
        client.to_end()
        client.socket.close()
        eventually(lambda: f.engine.streams() == 0)

        assert [end[:2] for end in f.engine.ended()] == [(1, "revoked")]
        assert client.raw.count(b"retry: ") == 1
