"""history.lua and what is made of its reply, on a real server."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_core.backplane.redis import commands
from sse_core.backplane.redis.commands import History, Item, Wanted
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import HISTORY
from sse_core.errors import ConfigurationError
from sse_core.event import Event
from sse_core.ids import format_id, parse_id
from tests.redisserver import wait_until

AGE = 3_600_000
SECOND = 1000 << 20
EVER = 2**64 - 1


def publish(
    client: redis.Redis, names: Names, *topics: str, data: str = "x", max_events: int = 100_000, age_ms: int = AGE
) -> list[int]:
    """Publish an event into each of the topics, in one batch; return their numbers."""
    items = [Item(topic, Event(data), max_events, age_ms) for topic in topics]
    receipts = commands.publish(client, names, items, batch_key="", key_window_ms=1000, max_keys=10)
    return [parse_id(receipt.id) or 0 for receipt in receipts]


def history(
    client: redis.Redis,
    names: Names,
    topic: str,
    after: int = 0,
    until: int = EVER,
    *,
    max_events: int = 1000,
    max_bytes: int = 1 << 20,
    age_ms: int = AGE,
) -> History:
    """The history of one topic."""
    (found,) = commands.history(client, names, [Wanted(topic, after, max_events, max_bytes, age_ms)], until)
    return found


def numbers(found: History) -> list[int]:
    return [entry.number for entry in found.entries]


def born(client: redis.Redis, names: Names) -> int:
    clock = commands.clock(client, names)
    assert clock is not None
    return clock.born


def server_time(client: redis.Redis) -> int:
    """Redis's time as the number of an id."""
    seconds, microseconds = client.time()
    return (seconds * 1000 + microseconds // 1000) << 20


def begin(client: redis.Redis, names: Names, *, seconds_ago: float) -> int:
    """Make the namespace as if it had been born a while ago."""
    number = server_time(client) - (round(seconds_ago * 1000) << 20)
    client.hset(names.clock, mapping={"last": format_id(number), "born": format_id(number)})
    return number


class TestRange:
    """What lies between two ids."""

    def test_entries_come_oldest_first(self, client: redis.Redis, names: Names) -> None:
        """All of a topic that is left, and nothing of another one."""
        published = publish(client, names, *"abaab")
        found = history(client, names, "a")

        assert numbers(found) == [published[0], published[2], published[3]]
        assert [entry.before for entry in found.entries] == [born(client, names), published[0], published[2]]
        assert found.floor == born(client, names)

    def test_the_ends_are_after_the_one_and_up_to_the_other(self, client: redis.Redis, names: Names) -> None:
        """An id that was seen is not fetched again, and the id up to which is asked belongs to it."""
        published = publish(client, names, *"aaaaa")

        assert numbers(history(client, names, "a", published[1], published[3])) == published[2:4]
        assert numbers(history(client, names, "a", published[1] - 1, published[1])) == [published[1]]

    def test_the_floor_says_from_where_it_is_complete(self, client: redis.Redis, names: Names) -> None:
        """The floor of a history with entries is the predecessor of the oldest: a client behind that has lost something."""
        published = publish(client, names, *"aaaaa")

        assert history(client, names, "a", published[2]).floor == published[2]
        assert history(client, names, "a", published[2] - 1).floor == published[1]

    def test_a_long_history_is_whole(self, client: redis.Redis, names: Names) -> None:
        """It is read in pieces inside of the script, and no piece is missing or twice."""
        published = publish(client, names, *("a" * 700))

        for count in (1, 127, 128, 129, 256, 257, 699, 700, 701):
            found = history(client, names, "a", max_events=count)
            assert numbers(found) == published[-count:]
            assert found.floor == (published[-count - 1] if count < 700 else born(client, names))


class TestBounds:
    """The newest within the bounds, as a topic's local log would have kept them."""

    def test_the_newest_events_are_kept(self, client: redis.Redis, names: Names) -> None:
        """Beyond a number of events the oldest are left out, and the floor tells."""
        published = publish(client, names, *"aaaaa")
        found = history(client, names, "a", max_events=2)

        assert numbers(found) == published[3:]
        assert found.floor == published[2]

    def test_the_newest_bytes_are_kept(self, client: redis.Redis, names: Names) -> None:
        """Beyond a number of bytes the oldest are left out, but for the newest event, which may be larger than all."""
        published = publish(client, names, *"aaaaa", data="x" * 1000)

        assert numbers(history(client, names, "a", max_bytes=3500)) == published[2:]
        assert history(client, names, "a", max_bytes=3500).floor == published[1]
        assert numbers(history(client, names, "a", max_bytes=1)) == published[4:]

    def test_what_is_too_old_is_left_out(self, client: redis.Redis, names: Names) -> None:
        """Redis trims whole nodes only; what is left there beyond the age is not given out."""
        old = server_time(client) - 100 * SECOND
        client.hset(names.clock, mapping={"last": format_id(old + 5), "born": format_id(old)})
        for i in range(5):
            client.xadd(names.topic("a"), {"before": format_id(old + i), "data": "x"}, id=format_id(old + i + 1))
        client.set(names.tail("a"), format_id(old + 5))
        published = publish(client, names, "a", "a", age_ms=10_000)
        found = history(client, names, "a", age_ms=10_000)

        assert numbers(found) == published
        assert found.floor == old + 5
        assert numbers(history(client, names, "a", age_ms=0)) == [*range(old + 1, old + 6), *published]
        assert history(client, names, "a", until=old + 3, age_ms=10_000) == History(old + 3, [])


class TestNothing:
    """No entries: how far back is that known to be all?"""

    def test_what_was_all_seen(self, client: redis.Redis, names: Names) -> None:
        """Nothing came after the id that was asked, and the floor is not above it."""
        published = publish(client, names, *"ab")

        assert history(client, names, "a", published[0], published[1]) == History(published[0], [])

    def test_a_topic_without_events(self, client: redis.Redis, names: Names) -> None:
        """It is complete since the namespace was born, or for as long as an event could have been remembered."""
        begun = begin(client, names, seconds_ago=100)
        (published,) = publish(client, names, "b")

        assert history(client, names, "a", until=published, age_ms=0) == History(begun, [])
        assert history(client, names, "a", until=published, age_ms=200_000) == History(begun, [])

        floor = history(client, names, "a", until=published, age_ms=10_000).floor

        assert abs(floor - (published - 10 * SECOND)) < 5 * SECOND

    def test_a_topic_that_has_expired(self, client: redis.Redis, names: Names) -> None:
        """What was in it is older than its age: a client that is behind that may have lost something, no other."""
        begin(client, names, seconds_ago=100)
        earliest = server_time(client)
        (published,) = publish(client, names, "a", age_ms=1)
        wait_until(lambda: not client.exists(names.topic("a"), names.tail("a")), "the topic has expired")
        found = history(client, names, "a", age_ms=1)
        latest = server_time(client)

        assert found.entries == []
        assert earliest <= published < found.floor < latest

    def test_an_expired_event_is_not_denied(self, client: redis.Redis, names: Names) -> None:
        """Even asked for up to an id shortly after it, the floor is above what has gone."""
        begin(client, names, seconds_ago=100)
        (gone,) = publish(client, names, "a", age_ms=1)
        (until,) = publish(client, names, "b")
        wait_until(lambda: not client.exists(names.topic("a"), names.tail("a")), "the topic has expired")

        assert gone < history(client, names, "a", gone - 1, until, age_ms=1).floor <= until

    def test_events_after_the_end_say_what_was_before(self, client: redis.Redis, names: Names) -> None:
        """Where all entries are above the id that was asked for, the first of them names the last one below."""
        published = publish(client, names, *"bab")
        client.execute_command("XTRIM", names.topic("b"), "MAXLEN", "1")

        assert history(client, names, "b", until=published[1]) == History(published[0], [])

    def test_a_topic_that_was_emptied(self, client: redis.Redis, names: Names) -> None:
        """Where only the tail is left it is the floor: all up to it may be missing."""
        published = publish(client, names, *"aab")
        client.delete(names.topic("a"))

        assert history(client, names, "a", until=published[2]) == History(published[1], [])
        assert history(client, names, "a", until=published[0]) == History(published[0], [])

    def test_a_floor_is_never_above_the_end(self, client: redis.Redis, names: Names) -> None:
        """About what comes after the id that was asked for nothing is said."""
        begun = begin(client, names, seconds_ago=1)
        publish(client, names, *"ab")

        assert history(client, names, "a", until=begun - 5) == History(begun - 5, [])
        assert history(client, names, "c", until=begun - 5) == History(begun - 5, [])

    def test_a_namespace_that_is_not(self, client: redis.Redis, names: Names) -> None:
        """Where Redis knows of no clock nothing is claimed."""
        assert history(client, names, "a", 5, 10) == History(10, [])


class TestDamage:
    """Others may write to Redis, too."""

    def test_a_hole_in_the_middle_is_the_floor(self, client: redis.Redis, names: Names) -> None:
        """What somebody took out is missing: complete is only what came after it."""
        published = publish(client, names, *"aaaaa")
        client.xdel(names.topic("a"), format_id(published[2]))
        found = history(client, names, "a")

        assert found.floor == published[2]
        assert numbers(found) == published[3:]

    def test_an_entry_that_cannot_be_delivered_is_the_floor(self, client: redis.Redis, names: Names) -> None:
        """Bytes that are no UTF-8 end no receiver: that event is told as lost, and what came after it is there."""
        published = publish(client, names, *"aa")
        bad = published[-1] + 1
        client.xadd(names.topic("a"), {"before": format_id(bad - 1), "data": b"\xff"}, id=format_id(bad))
        client.set(names.tail("a"), format_id(bad))
        client.hset(names.clock, "last", format_id(bad))
        published += publish(client, names, *"aa")
        found = history(client, names, "a")

        assert found.floor == bad
        assert numbers(found) == published[2:]

    def test_an_entry_of_another_program_without_a_predecessor_is_the_floor(
        self, client: redis.Redis, names: Names
    ) -> None:
        """A plain XADD says nothing of what was before it."""
        ahead = server_time(client) + SECOND
        client.xadd(names.topic("a"), {"data": "x"}, id=format_id(ahead))

        assert history(client, names, "a", until=ahead) == History(ahead, [])

    def test_an_entry_with_an_id_beyond_ours_is_left_out(self, client: redis.Redis, names: Names) -> None:
        """Redis has longer sequences; that was no event of ours."""
        (published,) = publish(client, names, "a")
        client.xadd(names.topic("a"), {"before": format_id(published), "data": "x"}, id=f"{published >> 20}-99999999")

        assert numbers(history(client, names, "a")) == [published]

    @pytest.mark.parametrize(
        "arguments",
        [[], ["", "0-0", "1-0", 1, 1, 0], ["a", "0-0", "1-0", 0, 1, 0], ["a", "0-0", "1-0", 1, 1, -1], ["a"] * 6],
    )
    def test_arguments_that_do_not_add_up_are_refused(
        self, client: redis.Redis, names: Names, arguments: list[str | bytes | int]
    ) -> None:
        """A caller that counts wrongly is told so."""
        with pytest.raises(ConfigurationError):
            HISTORY.run(client, names.clock, arguments)
        with pytest.raises(ConfigurationError):
            HISTORY.run(client, b"clock", ["a", "0-0", "1-0", 1, 1, 0])


class TestMany:
    """One call for many topics."""

    def test_topics_are_answered_in_their_order(self, client: redis.Redis, names: Names) -> None:
        """Each with its own bounds, whatever number of round trips that takes."""
        topics = [f"t{i}" for i in range(100)]
        published = publish(client, names, *topics, *topics)
        wanted = [Wanted(topic, 0, 1 + i % 2, 1 << 20, AGE) for i, topic in enumerate(topics)]
        found = commands.history(client, names, wanted, published[-1])

        assert [numbers(each) for each in found] == [
            [published[i], published[100 + i]] if i % 2 else [published[100 + i]] for i in range(100)
        ]

    def test_a_script_that_redis_forgot_is_sent_again(self, client: redis.Redis, names: Names) -> None:
        """All calls of the round trip that failed are made again."""
        published = publish(client, names, *"ab")
        wanted = [Wanted(topic, 0, 10, 1000, AGE) for topic in "ab"]
        commands.history(client, names, wanted, published[-1])
        client.script_flush()

        assert [numbers(each) for each in commands.history(client, names, wanted, published[-1])] == [
            [published[0]],
            [published[1]],
        ]

    def test_each_topic_is_asked_for_once(self, client: redis.Redis, names: Names) -> None:
        """A hundred topics are a hundred calls of the script and no other, and for none nothing is asked."""
        published = publish(client, names, *(f"t{i}" for i in range(100)))
        wanted = [Wanted(f"t{i}", 0, 10, 1000, AGE) for i in range(100)]
        commands.history(client, names, wanted[:1], published[-1])
        client.config_resetstat()
        commands.history(client, names, wanted, published[-1])
        commands.history(client, names, [], published[-1])

        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 100

    def test_errors_of_redis_are_let_through(self, client: redis.Redis, names: Names) -> None:
        """Another's key where a topic's stream should be."""
        publish(client, names, "b")
        client.set(names.topic("a"), "mine")

        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            commands.history(client, names, [Wanted("b", 0, 1, 1, 0), Wanted("a", 0, 1, 1, 0)], EVER)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    topics=st.lists(st.sampled_from("ab"), max_size=40),
    trimmed=st.integers(0, 10),
    deleted=st.booleans(),
    after=st.integers(-1, 40),
    until=st.integers(-1, 40),
    max_events=st.integers(1, 12),
)
def test_nothing_after_the_floor_is_missing(
    client: redis.Redis,
    names: Names,
    topics: list[str],
    trimmed: int,
    deleted: bool,
    after: int,
    until: int,
    max_events: int,
) -> None:
    """Whatever was published, trimmed or removed: between the floor and the end every event of the topic is returned."""
    client.flushall()
    begun = commands.beat(client, names, interval_ms=0).born
    published = publish(client, names, *topics) if topics else []
    client.execute_command("XTRIM", names.topic("a"), "MAXLEN", str(trimmed))
    if deleted:
        client.delete(names.topic("a"))
    every = [number for topic, number in zip(topics, published, strict=True) if topic == "a"]
    ids = dict(enumerate(published)) | {-1: begun}
    low, high = ids.get(after, begun), ids.get(until, max(ids.values()))
    found = history(client, names, "a", low, high, max_events=max_events)

    assert found.floor <= high
    assert numbers(found) == [number for number in every if max(low, found.floor) < number <= high]
    assert len(found.entries) <= max_events
    if not deleted and len(every) <= min(trimmed, max_events):
        assert found.floor <= low or not every
