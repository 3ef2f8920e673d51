"""publish.lua and beat.lua, on a real server."""

from __future__ import annotations

import time

import pytest
import redis

from sse_core.backplane import Receipt
from sse_core.backplane.redis import commands, message
from sse_core.backplane.redis.commands import Item
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import PUBLISH
from sse_core.errors import ConfigurationError, EventError, TopicError
from sse_core.event import Event
from sse_core.ids import format_id, parse_id
from tests.backplane.redis.listening import Listener
from tests.redisserver import RedisServer, wait_until

AGE = 3_600_000
SECOND = 1000 << 20


def publish(client: redis.Redis, names: Names, *items: tuple[str, Event], **options: object) -> list[Receipt]:
    """Publish with bounds that most tests have nothing to do with."""
    chosen: dict[str, object] = {
        "batch_key": "",
        "key_window_ms": 120_000,
        "max_keys": 1000,
        "max_events": 1000,
        "age_ms": AGE,
    }
    chosen |= options
    max_events, age_ms = chosen.pop("max_events"), chosen.pop("age_ms")
    return commands.publish(client, names, [Item(*item, max_events, age_ms) for item in items], **chosen)  # type: ignore[arg-type]


def number(receipt: Receipt) -> int:
    found = parse_id(receipt.id)
    assert found is not None
    return found


def server_time(client: redis.Redis) -> int:
    """Redis's time as the number of an id."""
    seconds, microseconds = client.time()
    return (seconds * 1000 + microseconds // 1000) << 20


class TestIds:
    """One order for the whole namespace."""

    def test_a_new_namespace_begins_now(self, client: redis.Redis, names: Names) -> None:
        """Its `born` is the id before its first event, and carries the time of Redis."""
        earliest = server_time(client)
        (receipt,) = publish(client, names, ("a", Event("x")))
        clock = commands.clock(client, names)

        assert clock is not None
        assert earliest <= clock.born <= server_time(client)
        assert number(receipt) == clock.last == clock.born + 1

    def test_there_is_no_clock_before_the_first_event(self, client: redis.Redis, names: Names) -> None:
        """A namespace is made by its first publish or beat, not by asking."""
        assert commands.clock(client, names) is None

    def test_ids_grow_over_all_topics(self, client: redis.Redis, names: Names) -> None:
        """Topics share one clock: what is published later has the higher id, wherever it goes."""
        numbers = [number(publish(client, names, (f"t{i % 3}", Event("x")))[0]) for i in range(30)]

        assert numbers == sorted(set(numbers))

    def test_a_batch_has_consecutive_ids(self, client: redis.Redis, names: Names) -> None:
        """Nothing can come in between the events of one call."""
        receipts = publish(client, names, *((f"t{i % 3}", Event("x")) for i in range(50)))
        numbers = [number(receipt) for receipt in receipts]

        assert numbers == list(range(numbers[0], numbers[0] + 50))

    def test_a_clock_that_was_set_back_gives_no_id_twice(self, client: redis.Redis, names: Names) -> None:
        """Where the last id is ahead of Redis's time the sequence runs on."""
        ahead = server_time(client) + 3600 * SECOND + 7
        client.hset(names.clock, mapping={"last": format_id(ahead), "born": format_id(ahead)})
        receipts = publish(client, names, ("a", Event("x")), ("a", Event("y")))

        assert [number(receipt) for receipt in receipts] == [ahead + 1, ahead + 2]

    def test_a_full_millisecond_goes_on_in_the_next(self, client: redis.Redis, names: Names) -> None:
        """A sequence has 20 bits; after the last the next millisecond's first follows, and the number grows by one."""
        full = server_time(client) + 3600 * SECOND + (1 << 20) - 2
        client.hset(names.clock, mapping={"last": format_id(full), "born": format_id(full)})
        receipts = publish(client, names, *(("a", Event("x")) for _ in range(3)))

        assert [number(receipt) for receipt in receipts] == [full + 1, full + 2, full + 3]
        assert receipts[1].id.endswith("-0")

    def test_ids_are_whole_numbers(self, client: redis.Redis, names: Names) -> None:
        """No id leaves Lua as 1.7e+12, whatever its digits."""
        for last in ("1700000000000-999999", f"{2**43}-100000", f"{10**13}-1048575"):
            client.hset(names.clock, mapping={"last": last, "born": last})
            (receipt,) = publish(client, names, ("a", Event("x")))
            assert number(receipt) == (parse_id(last) or 0) + 1 or number(receipt) > server_time(client) - SECOND

    def test_a_lost_clock_gives_no_id_of_a_topic_again(self, client: redis.Redis, names: Names) -> None:
        """Where the clock's key was removed ids go on above those of the topics that are published to."""
        ahead = server_time(client) + 60 * SECOND
        client.hset(names.clock, mapping={"last": format_id(ahead), "born": format_id(ahead)})
        publish(client, names, ("a", Event("x")))
        client.delete(names.clock)
        (receipt,) = publish(client, names, ("a", Event("y")))

        assert number(receipt) == ahead + 2


class TestMessages:
    """What is published is what is stored, and both name the topic's event before."""

    def test_events_are_stored_and_published(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """All fields arrive on the channel of the topic, and lie in its stream."""
        event = Event("one\ntwo", event="news", retry=250, comment="for you", id="key")
        listener.listen(names.live("a"))
        (receipt,) = publish(client, names, ("a", event))
        ((channel, payload),) = listener.take(1)
        ((id, fields),) = client.execute_command("XRANGE", names.topic("a"), "-", "+")
        (entry,) = message.decode(payload)

        assert channel == names.live("a")
        assert entry.number == number(receipt)
        assert (entry.event.data, entry.event.event, entry.event.retry) == ("one\ntwo", "news", 250)
        assert (entry.event.comment, entry.event.id) == ("for you", None)
        assert id == receipt.id.encode()
        assert fields[b"data"] == b"one\ntwo"
        assert message.entry(id, [part for pair in fields.items() for part in pair]) == entry

    def test_each_names_the_one_before_it(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """A receiver that misses a message sees from the next one that something was there."""
        listener.listen(names.live("a"), names.live("b"))
        first, other, second = (publish(client, names, (topic, Event("x")))[0] for topic in ("a", "b", "a"))
        entries = [message.decode(payload)[0] for _, payload in listener.take(3)]
        clock = commands.clock(client, names)

        assert clock is not None
        assert [entry.number for entry in entries] == [number(first), number(other), number(second)]
        assert [entry.before for entry in entries] == [clock.born, clock.born, number(first)]
        assert client.get(names.tail("a")) == second.id.encode()

    def test_a_run_of_one_topic_is_one_message(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """Consecutive events of a topic share a message; another topic in between begins a new one, in order of ids."""
        listener.listen(names.live("a"), names.live("b"))
        publish(client, names, *((topic, Event(topic + str(i))) for i, topic in enumerate("aaabba")))
        found = [(channel, message.decode(payload)) for channel, payload in listener.take(3)]

        assert [names.topic_of(channel) for channel, _ in found] == ["a", "b", "a"]
        assert [[entry.event.data for entry in entries] for _, entries in found] == [
            ["a0", "a1", "a2"],
            ["b3", "b4"],
            ["a5"],
        ]
        assert found[2][1][0].before == found[0][1][-1].number

    def test_a_long_run_is_cut(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """No message is much longer than 64 KiB or its one event."""
        listener.listen(names.live("a"))
        publish(client, names, *(("a", Event("x" * 10_000)) for _ in range(20)), ("a", Event("y" * 200_000)))
        payloads: list[bytes] = []
        while sum(len(message.decode(payload)) for payload in payloads) < 21:
            payloads += (payload for _, payload in listener.take(1))

        assert [len(message.decode(payload)) for payload in payloads] == [7, 7, 7]
        assert [len(payload) < 80_000 for payload in payloads] == [True, True, False]

    def test_a_topic_s_first_event_names_what_may_have_expired(self, client: redis.Redis, names: Names) -> None:
        """Its predecessor is as old as the topic may remember: nothing after that can be missing, before it all may be."""
        born = server_time(client) - 100 * SECOND
        client.hset(names.clock, mapping={"last": format_id(born), "born": format_id(born)})
        receipts = publish(client, names, ("short", Event("x")), age_ms=10_000)
        receipts += publish(client, names, ("long", Event("x")), ("endless", Event("x")), age_ms=0)
        befores = {
            topic: parse_id(client.execute_command("XRANGE", names.topic(topic), "-", "+")[0][1][b"before"].decode())
            for topic in ("short", "long", "endless")
        }
        milliseconds = number(receipts[0]) >> 20

        assert befores == {"short": (milliseconds - 10_000) << 20, "long": born, "endless": born}

    def test_a_message_names_no_estimate(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """Who listens has heard all of the topic: after its keys have expired nothing looks as if it were missing."""
        born = server_time(client) - 100 * SECOND
        client.hset(names.clock, mapping={"last": format_id(born), "born": format_id(born)})
        listener.listen(names.live("a"))
        publish(client, names, ("a", Event("x")), ("a", Event("y", event="e")), age_ms=10_000)
        client.delete(names.topic("a"), names.tail("a"))
        publish(client, names, ("a", Event("z", event="e")), age_ms=10_000)
        found = [message.decode(payload) for _, payload in listener.take(2)]

        assert [[entry.before for entry in entries] for entries in found] == [[born, found[0][0].number], [born]]


class TestBounds:
    """Nothing is left behind for ever."""

    def test_a_topic_is_bound_by_length(self, client: redis.Redis, names: Names) -> None:
        """Redis trims whole nodes of a stream, so it holds the bound and a little more."""
        for _ in range(10):
            publish(client, names, *(("a", Event("x")) for _ in range(100)), max_events=50)

        assert 50 <= client.xlen(names.topic("a")) < 300

    def test_a_topic_is_bound_by_age(self, client: redis.Redis, names: Names) -> None:
        """Events that are too old go when a new one comes."""
        old = server_time(client) - 100 * SECOND
        for i in range(300):
            client.xadd(names.topic("a"), {"before": format_id(old + i), "data": "x"}, id=format_id(old + i + 1))
        client.set(names.tail("a"), format_id(old + 300))
        publish(client, names, ("a", Event("x")), age_ms=10_000)

        assert client.xlen(names.topic("a")) < 200

    def test_a_topic_expires_with_its_last_event(self, client: redis.Redis, names: Names) -> None:
        """History and tail go `age` after the last event."""
        publish(client, names, ("a", Event("x")), age_ms=50_000)

        for key in (names.topic("a"), names.tail("a")):
            assert 48_000 < client.pttl(key) <= 50_001

        publish(client, names, ("a", Event("x")), age_ms=90_000)

        for key in (names.topic("a"), names.tail("a")):
            assert 80_000 < client.pttl(key) <= 90_001

    def test_a_topic_of_a_clock_set_back_does_not_expire_early(self, client: redis.Redis, names: Names) -> None:
        """Its expiry counts from the time in the id, so that what expired is always older than `age` by the ids."""
        ahead = server_time(client) + 60 * SECOND
        client.hset(names.clock, mapping={"last": format_id(ahead), "born": format_id(ahead)})
        publish(client, names, ("a", Event("x")), age_ms=10_000)

        assert 60_000 < client.pttl(names.topic("a")) <= 70_001
        assert 60_000 < client.pttl(names.tail("a")) <= 70_001

    def test_a_topic_without_bound_on_age_does_not_expire(self, client: redis.Redis, names: Names) -> None:
        """Even if it had a bound before."""
        publish(client, names, ("a", Event("x")), age_ms=5000)
        publish(client, names, ("a", Event("x")), age_ms=0)

        assert [client.pttl(key) for key in (names.topic("a"), names.tail("a"))] == [-1, -1]

    def test_every_key_but_the_clock_expires(self, client: redis.Redis, names: Names) -> None:
        """A namespace that nobody uses any more comes down to one small hash."""
        publish(client, names, ("a", Event("x", id="key")), ("b", Event("y")), batch_key="batch")
        publish(client, names, *(("a", Event("x", id=f"k{i}")) for i in range(20)), max_keys=10)
        publish(client, names, ("a", Event("x", id="more")), max_keys=10)
        commands.beat(client, names, interval_ms=0)
        commands.hold_lease(client, names, "l", "owner", 5, "note")
        commands.report(client, names, "w", {"a": 1}, {("a", "me"): 1}, whole=True, seconds=5)
        expiries = {key: client.pttl(key) for key in client.keys(f"{{{names.namespace}}}*")}

        assert len(expiries) == 12
        assert [key for key, expiry in expiries.items() if expiry < 0] == [names.clock]


class TestKeys:
    """Idempotency keys."""

    def test_a_key_gives_the_first_event_s_id(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """The same key again publishes nothing, whatever comes with it."""
        listener.listen(names.live("a"), names.live("b"))
        (first,) = publish(client, names, ("a", Event("x", id="key")))
        (again,) = publish(client, names, ("b", Event("y", id="key")))
        (other,) = publish(client, names, ("b", Event("z", id="other")))

        assert (first.duplicate, again, other.duplicate) == (False, Receipt(first.id, True), False)
        assert [message.decode(payload)[0].event.data for _, payload in listener.take(2)] == ["x", "z"]
        assert client.exists(names.topic("b")) == 1
        assert client.xlen(names.topic("b")) == 1

    def test_a_key_twice_in_a_batch_is_one_event(self, client: redis.Redis, names: Names) -> None:
        """Duplicates within a batch, and of what came before it, get the first event's id."""
        (old,) = publish(client, names, ("a", Event("x", id="old")))
        receipts = publish(
            client,
            names,
            *(("a", Event("x", id=key)) for key in ("k", "old", "k", None)),
        )

        assert [receipt.duplicate for receipt in receipts] == [False, True, True, False]
        assert receipts[1].id == old.id
        assert receipts[2].id == receipts[0].id
        assert client.xlen(names.topic("a")) == 3

    def test_a_window_ends(self, client: redis.Redis, names: Names) -> None:
        """After its window a key is new, even where Redis still holds it."""
        (first,) = publish(client, names, ("a", Event("x", id="key")), key_window_ms=50)
        wait_until(lambda: server_time(client) > number(first) + (51 << 20), "the window has passed")
        (kept,) = publish(client, names, ("a", Event("x", id="key")), key_window_ms=60_000)
        (late,) = publish(client, names, ("a", Event("x", id="key")), key_window_ms=50)

        assert kept == Receipt(first.id, True)
        assert not late.duplicate

    def test_a_key_is_found_in_the_older_generation(self, client: redis.Redis, names: Names) -> None:
        """When the newer generation is full it becomes the older one, and is still asked."""
        receipts = [publish(client, names, ("a", Event("x", id=f"k{i}")), max_keys=10)[0] for i in range(10)]
        again = [publish(client, names, ("a", Event("x", id=f"k{i}")), max_keys=10)[0] for i in range(10)]

        assert client.hlen(names.keys_old) == 5
        assert again == [Receipt(receipt.id, True) for receipt in receipts]
        assert commands.keys_evicted(client, names) == 0

    def test_keys_are_bound_and_what_went_early_is_counted(self, client: redis.Redis, names: Names) -> None:
        """Beyond the bound the older generation goes, and says how many keys had time left."""
        for i in range(16):
            publish(client, names, ("a", Event("x", id=f"k{i}")), max_keys=10)

        assert client.hlen(names.keys) + client.hlen(names.keys_old) == 6
        assert commands.keys_evicted(client, names) == 10
        assert not publish(client, names, ("a", Event("x", id="k0")), max_keys=10)[0].duplicate
        assert publish(client, names, ("a", Event("x", id="k15")), max_keys=10)[0].duplicate

    def test_generations_change_with_the_window(self, client: redis.Redis, names: Names) -> None:
        """Keys that came slowly are forgotten after twice the window, and count as forgotten in time."""
        (first,) = publish(client, names, ("a", Event("x", id="k0")), key_window_ms=30)
        wait_until(lambda: server_time(client) > number(first) + (31 << 20), "the window has passed")
        (second,) = publish(client, names, ("a", Event("x", id="k1")), key_window_ms=30)
        wait_until(lambda: server_time(client) > number(second) + (31 << 20), "the window has passed")
        publish(client, names, ("a", Event("x", id="k2")), key_window_ms=30)

        assert list(client.hgetall(names.keys)) == [b"k2"]
        assert b"k0" not in client.hgetall(names.keys_old)
        assert commands.keys_evicted(client, names) == 0

    def test_a_batch_key_repeats_the_first_answer(self, client: redis.Redis, names: Names) -> None:
        """The receipts are those of the first call, with the duplicates that it had, and nothing is published."""
        publish(client, names, ("a", Event("x", id="old")))
        batch = (("a", Event("1")), ("b", Event("2", id="old")), ("a", Event("3", id="new")))
        first = publish(client, names, *batch, batch_key="old")
        again = publish(client, names, *batch, batch_key="old")

        assert [receipt.duplicate for receipt in first] == [False, True, False]
        assert again == first
        assert client.xlen(names.topic("a")) == 3
        assert client.exists(names.topic("b")) == 0

    def test_keys_of_batches_do_not_push_out_those_of_events(self, client: redis.Redis, names: Names) -> None:
        """A process may use one for each call; the keys that callers chose last as long as without them."""
        (first,) = publish(client, names, ("a", Event("x", id="key")), max_keys=10)
        for i in range(20):
            publish(client, names, ("a", Event("x")), batch_key=f"batch {i}", max_keys=10)

        assert publish(client, names, ("a", Event("x", id="key")), max_keys=10) == [Receipt(first.id, True)]
        assert client.hlen(names.batches) + client.hlen(names.batches_old) <= 10
        assert commands.keys_evicted(client, names) == 0

    def test_a_batch_key_belongs_to_one_batch(self, client: redis.Redis, names: Names) -> None:
        """The same key with another number of events is a mistake, and is told."""
        publish(client, names, ("a", Event("1")), ("a", Event("2")), batch_key="k")

        with pytest.raises(ConfigurationError, match="was used for a batch of 2"):
            publish(client, names, ("a", Event("1")), batch_key="k")

    def test_a_large_batch_is_one_call(self, client: redis.Redis, names: Names) -> None:
        """Lua's stack is no bound: thousands of topics and keys go in one script."""
        batch = [(f"t{i}", Event(str(i), id=f"key{i}")) for i in range(5000)]
        first = publish(client, names, *batch, batch_key="b", max_keys=100_000)
        again = publish(client, names, *batch, max_keys=100_000)

        assert not any(receipt.duplicate for receipt in first)
        assert again == [Receipt(receipt.id, True) for receipt in first]


class TestRefusals:
    """What is refused changes nothing."""

    GOOD = ("a", "10", "0", "", "", "", "", "x")

    @pytest.mark.parametrize(
        ("place", "value", "error", "field"),
        [
            (0, "", TopicError, "topic"),
            (1, "0", ConfigurationError, "max_events"),
            (1, "ten", ConfigurationError, "max_events"),
            (2, "-1", ConfigurationError, "age_ms"),
            (2, "", ConfigurationError, "age_ms"),
            (3, "a\nb", EventError, "id"),
            (3, "a\0b", EventError, "id"),
            (4, "a\rb", EventError, "event"),
            (4, "a\nb", EventError, "event"),
            (5, "a\rb", EventError, "comment"),
            (6, "1s", EventError, "retry"),
            (6, "-1", EventError, "retry"),
            (6, "2147483648", EventError, "retry"),
            (7, "a\rb", EventError, "data"),
            (7, "a\r\n", EventError, "data"),
        ],
    )
    def test_one_bad_field_refuses_the_batch(
        self, client: redis.Redis, names: Names, place: int, value: str, error: type[Exception], field: str
    ) -> None:
        """An event in another language's hands is checked too, before anything of its batch is written."""
        bad = list(self.GOOD)
        bad[place] = value

        with pytest.raises(error, match=field if error is not EventError else None) as caught:
            PUBLISH.run(client, names.clock, ["", 1000, 10, *self.GOOD, *bad])
        assert getattr(caught.value, "field", field) == field
        assert client.keys(f"{{{names.namespace}}}*") == []

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["", 1000, 10],
            ["", 1000, 10, *GOOD[:7]],
            ["", 0, 10, *GOOD],
            ["", 1000, 1, *GOOD],
            ["", "x", 10, *GOOD],
        ],
    )
    def test_arguments_that_do_not_add_up_are_refused(
        self, client: redis.Redis, names: Names, arguments: list[str | bytes | int]
    ) -> None:
        """A caller that counts wrongly is told so."""
        with pytest.raises(ConfigurationError):
            PUBLISH.run(client, names.clock, arguments)
        assert client.keys(f"{{{names.namespace}}}*") == []

    @pytest.mark.parametrize("key", [b"clock", b"n:clock", b"{n}:clocks", b"{a}b:clock"])
    def test_another_key_is_refused(self, client: redis.Redis, key: bytes) -> None:
        """All other keys are derived from the clock's, so its form counts."""
        with pytest.raises(ConfigurationError, match="the one key"):
            PUBLISH.run(client, key, ["", 1000, 10, *self.GOOD])

    def test_other_errors_of_redis_stay_what_they_are(self, client: redis.Redis, names: Names) -> None:
        """Where something else lies at one of our keys Redis's own words say so."""
        client.set(names.topic("a"), "mine")

        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            publish(client, names, ("a", Event("x")))


class TestScripts:
    """The script is known to Redis, or brought along."""

    def test_a_script_that_redis_forgot_is_sent_again(self, client: redis.Redis, names: Names) -> None:
        """SCRIPT FLUSH, a restart or a fail-over cost one more round trip, and lose nothing."""
        publish(client, names, ("a", Event("x")))
        client.script_flush()
        (receipt,) = publish(client, names, ("a", Event("y")))
        client.config_resetstat()
        publish(client, names, ("a", Event("z")))
        used = client.info("commandstats")

        assert not receipt.duplicate
        assert client.xlen(names.topic("a")) == 3
        assert used["cmdstat_evalsha"]["calls"] == 1
        assert "cmdstat_eval" not in used

    def test_a_restart_is_survived(self, server: RedisServer, names: Names) -> None:
        """A server that comes back empty has neither script nor clock, and both come with the next publish."""
        client = server.client()
        publish(client, names, ("a", Event("x")))
        server.stop()
        server.start()
        (receipt,) = publish(client, names, ("a", Event("y")))
        clock = commands.clock(client, names)

        assert clock is not None
        assert number(receipt) == clock.last
        assert client.xlen(names.topic("a")) == 1


class TestBeat:
    """The namespace's clock, as it is told to processes that hear nothing else."""

    def test_a_beat_tells_the_clock(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """It makes the namespace where it is new, and says the last and the first id."""
        listener.listen(names.beat)
        clock = commands.beat(client, names, interval_ms=1000)
        ((_, payload),) = listener.take(1)

        assert payload == f"{format_id(clock.last)} {format_id(clock.born)}".encode()
        assert clock.last == clock.born
        assert commands.clock(client, names) == clock

    def test_a_beat_moves_the_clock_to_the_present(self, client: redis.Redis, names: Names) -> None:
        """The ids that silent streams are told do not age, and the next event's is above them."""
        old = server_time(client) - 100 * SECOND
        client.hset(names.clock, mapping={"last": format_id(old), "born": format_id(old)})
        now = server_time(client)
        clock = commands.beat(client, names, interval_ms=0)
        (receipt,) = publish(client, names, ("a", Event("x")))

        assert clock.born == old
        assert now <= clock.last < number(receipt)

    def test_a_beat_never_moves_it_back(self, client: redis.Redis, names: Names) -> None:
        """Where ids are ahead of Redis's time the clock stays."""
        ahead = server_time(client) + 100 * SECOND + 5
        client.hset(names.clock, mapping={"last": format_id(ahead), "born": format_id(ahead)})

        assert commands.beat(client, names, interval_ms=0).last == ahead

    def test_one_beat_an_interval_is_enough(self, client: redis.Redis, names: Names, listener: Listener) -> None:
        """Every worker tries, the first one beats, and the others learn the clock all the same."""
        listener.listen(names.beat, names.live("a"))
        first = commands.beat(client, names, interval_ms=60_000)
        again = [commands.beat(client, names, interval_ms=60_000) for _ in range(3)]
        commands.beat(client, names, interval_ms=0)
        publish(client, names, ("a", Event("x")))
        channels = [channel for channel, _ in listener.take(3)]

        assert again == [first] * 3
        assert channels == [names.beat, names.beat, names.live("a")]

    def test_a_clock_that_was_set_back_does_not_silence_it(
        self, client: redis.Redis, names: Names, listener: Listener
    ) -> None:
        """A last beat in the future is no reason to wait."""
        listener.listen(names.beat)
        commands.beat(client, names, interval_ms=1000)
        client.hset(names.clock, "beat", round(time.time() * 1000) + 3_600_000)
        commands.beat(client, names, interval_ms=1000)

        assert len(listener.take(2)) == 2

    def test_it_needs_a_number(self, client: redis.Redis, names: Names) -> None:
        """An interval below zero is a mistake of the caller."""
        with pytest.raises(ConfigurationError, match="interval"):
            commands.beat(client, names, interval_ms=-1)
