"""Messages and entries, and the way back to events."""

from __future__ import annotations

import pickle
from contextlib import suppress

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_core.backplane.redis import commands, message
from sse_core.backplane.redis.commands import Item, Wanted
from sse_core.backplane.redis.message import Entry, MessageError, decode, entry, parse_number
from sse_core.backplane.redis.names import Names
from sse_core.event import Event
from sse_core.ids import format_id, parse_id
from tests.backplane.redis.listening import Listener
from tests.strategies import events

NUMBER = (1_700_000_000_000 << 20) + 5
HEAD = b"1700000000000-5 1700000000000-3 "
TOPICS = st.sampled_from(["a", "b", "ü {x}"])


def texts(found: Event) -> tuple[object, ...]:
    """All that a client sees of an event. An empty comment is none."""
    return found.data, found.event, found.retry, found.comment or None


def renamed(event: Event, id: str | None) -> Event:
    """The same event with another key."""
    return Event(event.data, event=event.event, id=id, retry=event.retry, comment=event.comment)


class TestNumbers:
    """Ids as Redis writes them."""

    @given(st.integers(0, 2**64 - 1))
    def test_they_are_those_of_ids(self, number: int) -> None:
        """Bytes from Redis and text from a client lead to the same number."""
        assert parse_number(format_id(number).encode()) == number

    @given(
        st.one_of(
            st.binary(max_size=30),
            st.from_regex(rb"\A[+_ 0-9-]{0,18}-[+_ 0-9]{0,9}\Z"),
            st.sampled_from([b"17592186044416-0", b"1-1048576", b"1-", b"-1", b"", b"1", b"1-2-3", b"\xd9\xa1-1"]),
        )
    )
    def test_what_is_no_id_is_none(self, text: bytes) -> None:
        """Whatever Python would take for a number, only digits within the bounds are."""
        try:
            expected = parse_id(text.decode("ascii"))
        except UnicodeDecodeError:
            expected = None

        assert parse_number(text) == expected


class TestDecode:
    """Live messages."""

    def test_fields_are_cut_by_their_lengths(self) -> None:
        """Nothing inside of a field can be taken for the end of it."""
        payload = HEAD + b"4 3 250 5\nn ws" + b"a\nb" + b"- 1\n " + b"1700000000000-6 1700000000000-5 - - - 0\n"

        assert decode(payload) == [
            Entry(NUMBER, NUMBER - 2, Event("- 1\n ", event="n ws", retry=250)),
            Entry(NUMBER + 1, NUMBER, Event("")),
        ]
        assert decode(payload)[0].event.comment == "a\nb"

    @pytest.mark.parametrize(
        ("payload", "number"),
        [
            (b"", None),
            (b"\n", None),
            (b"hello", None),
            (b"1-x 1-0 - - - 1\nx", None),
            (b"99999999999999999-1 1-0 - - - 1\nx", None),
            (HEAD + b"- - - 1", NUMBER),
            (HEAD + b"- - 1\nx", NUMBER),
            (HEAD + b"- - - - 1\nx", NUMBER),
            (b"1700000000000-5 - - - - 1\nx", NUMBER),
            (HEAD + b"- - - 2\nx", NUMBER),
            (HEAD + b"- - - -1\nx", NUMBER),
            (HEAD + b"- - - 1_0\n" + b"x" * 10, NUMBER),
            (HEAD + b"- - - " + b"9" * 5000 + b"\nx", NUMBER),
            (HEAD + b"2 - - 1\nx", NUMBER),
            (HEAD + b"x - - 1\nx", NUMBER),
            (HEAD + b"- x - 1\nx", NUMBER),
            (HEAD + b"- 9 - 1\nx", NUMBER),
            (HEAD + b"- - x 1\nx", NUMBER),
            (HEAD + b"- - -1 1\nx", NUMBER),
            (HEAD + b"- - 2147483648 1\nx", NUMBER),
            (HEAD + b"0 - - 1\nx", NUMBER),
            (HEAD + b"3 - - 1\na\nbx", NUMBER),
            (HEAD + b"3 - - 1\na\rbx", NUMBER),
            (HEAD + b"1 - - 1\n\xffx", NUMBER),
            (HEAD + b"- 1 - 1\n\xffx", NUMBER),
            (HEAD + b"- - - 1\n\xff", NUMBER),
            (HEAD + b"- - - 1\nx1700000000000-6", NUMBER + 1),
        ],
    )
    def test_what_is_hostile_or_broken_is_told_with_its_number(self, payload: bytes, number: int | None) -> None:
        """A field that could inject another, and whatever does not add up, raises; the number says which event is lost."""
        with pytest.raises(MessageError) as caught:
            decode(payload)
        assert caught.value.number == number

    @given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=5))
    def test_whatever_arrives_is_events_or_an_error(self, noise: bytes, at: int, more: bytes) -> None:
        """No message ends a receiver by another exception."""
        good = HEAD + b"4 3 250 6\nnews" + b"one" + b"a\nb\ncd"
        for payload in (noise, good[:at], good[:at] + more + good[at:], good[:at] + more + good[at + len(more) :]):
            with suppress(MessageError):
                assert decode(payload)

    def test_an_error_survives_pickling(self) -> None:
        """It crosses processes like any other of this package."""
        error = pickle.loads(pickle.dumps(MessageError(NUMBER, "why")))

        assert (error.number, error.reason, str(error)) == (NUMBER, "why", "1700000000000-5: why")


class TestEntry:
    """Entries of a topic's stream."""

    def test_fields_may_come_in_any_order(self) -> None:
        """Another program's XADD is as good as ours."""
        fields = [b"data", b"x", b"event", b"news", b"more", b"y", b"before", b"1700000000000-3", b"retry", b"7"]

        assert entry(b"1700000000000-5", fields) == Entry(NUMBER, NUMBER - 2, Event("x", event="news", retry=7))

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ([], "predecessor"),
            ([b"data", b"x"], "predecessor"),
            ([b"before", b"x", b"data", b"x"], "predecessor"),
            ([b"before", b"1-0"], "data"),
            ([b"before", b"1-0", b"data", b"\xff"], "UTF-8"),
            ([b"before", b"1-0", b"data", b"x", b"event", b"a\nb"], "event"),
            ([b"before", b"1-0", b"data", b"x", b"event", b"\xff"], "UTF-8"),
            ([b"before", b"1-0", b"data", b"x", b"retry", b"soon"], "retry"),
        ],
    )
    def test_what_cannot_be_delivered_is_told_with_its_number(self, fields: list[bytes], reason: str) -> None:
        """An entry that another program broke is known to be lost."""
        with pytest.raises(MessageError, match=reason) as caught:
            entry(b"1700000000000-5", fields)
        assert caught.value.number == NUMBER

    def test_an_id_beyond_ours_has_no_number(self) -> None:
        """Redis allows sequences that our numbers have no room for."""
        with pytest.raises(MessageError) as caught:
            entry(b"1-1048576", [b"before", b"1-0", b"data", b"x"])
        assert caught.value.number is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=st.lists(st.lists(st.tuples(TOPICS, events()), min_size=1, max_size=6), min_size=1, max_size=3))
def test_what_is_published_is_what_is_heard_and_what_is_kept(
    batches: list[list[tuple[str, Event]]], client: redis.Redis, names: Names, listener: Listener
) -> None:
    """Any legal event arrives unchanged on the channel and lies unchanged in history, with its id and predecessor."""
    client.flushall()
    channels = [names.live(topic) for topic in ("a", "b", "ü {x}")]
    listener.listen(*channels)
    listener.listen(names.beat)
    expected: list[tuple[str, int, Event]] = []
    for batch in batches:
        # A key twice is one event, which is another test's business.
        fresh = [
            (topic, renamed(event, f"{event.id} {len(expected) + i}" if event.id else None))
            for i, (topic, event) in enumerate(batch)
        ]
        receipts = commands.publish(
            client,
            names,
            [Item(topic, event, 1000, 3_600_000) for topic, event in fresh],
            batch_key="",
            key_window_ms=60_000,
            max_keys=1000,
        )
        expected += (
            (topic, parse_id(receipt.id) or 0, event) for (topic, event), receipt in zip(fresh, receipts, strict=True)
        )
    clock = commands.beat(client, names, interval_ms=0)
    heard: list[tuple[str, Entry]] = []
    while True:
        ((channel, payload),) = listener.take(1)
        if channel == names.beat:
            break
        heard += ((names.topic_of(channel) or "", found) for found in message.decode(payload))
    wanted = [Wanted(topic, 0, 1000, 1 << 20, 3_600_000) for topic in ("a", "b", "ü {x}")]
    kept = commands.history(client, names, wanted, clock.last)
    befores: dict[str, int] = {}
    for topic, found in heard:
        assert found.before == befores.get(topic, clock.born)
        befores[topic] = found.number

    assert [(topic, found.number, texts(found.event)) for topic, found in heard] == [
        (topic, number, texts(event)) for topic, number, event in expected
    ]
    assert [history.entries for history in kept] == [
        [found for topic, found in heard if topic == each.topic] for each in wanted
    ]
    assert [[texts(found.event) for found in history.entries] for history in kept] == [
        [texts(found.event) for topic, found in heard if topic == each.topic] for each in wanted
    ]
