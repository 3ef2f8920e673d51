import copy
import json
import pickle
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given

from sse_core.errors import EventError, SSEError
from sse_core.event import Event
from tests.strategies import events

VECTORS = json.loads((Path(__file__).parent / "data" / "frames.json").read_text())

FULL = Event("x", event="update", id="7-0", retry=2500, comment="c")


class Shouted(str):
    """Says something else than it is."""

    def __str__(self) -> str:
        return "data: injected\n\n"


class Wait(IntEnum):
    LONG = 9000


def circular() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def nested(depth: int) -> list[Any]:
    """Lists within lists, deeper than any interpreter's stack."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class TestRefusals:
    @pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
    def test_refused(self, case: dict[str, Any]) -> None:
        """What cannot be put on the wire is refused at construction, with the field's name."""
        with pytest.raises(EventError) as caught:
            Event(**case["event"])

        assert case["field"] == caught.value.field
        assert str(caught.value) == f"{caught.value.field}: {caught.value.reason}"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"ab\xff", "bytes are not UTF-8: invalid start byte at byte 2"),
            (b"\xed\xa0\x80", "bytes are not UTF-8"),
            (float("nan"), "cannot be serialized as JSON"),
            ({"a": float("inf")}, "cannot be serialized as JSON"),
            (circular(), "cannot be serialized as JSON"),
            (nested(100_000), "cannot be serialized as JSON"),
            (10**5000, "cannot be serialized as JSON"),
            ({(1, 2): 3}, "cannot be serialized as JSON"),
            ({"a", "b"}, "cannot be serialized as JSON"),
            (bytearray(b"a"), "cannot be serialized as JSON"),
            (object(), "cannot be serialized as JSON"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_data_that_are_no_text(self, data: object, reason: str) -> None:
        """Data that are neither text, nor UTF-8, nor JSON are refused, and the reason says which."""
        with pytest.raises(EventError) as caught:
            Event(data)

        assert caught.value.field == "data"
        assert reason in caught.value.reason

    def test_error_is_the_callers(self) -> None:
        """An EventError is a ValueError and an SSEError, so that either handler catches it."""
        assert issubclass(EventError, ValueError)
        assert issubclass(EventError, SSEError)

    def test_reason_names_the_character(self) -> None:
        """A lone surrogate is refused with its code and its position."""
        with pytest.raises(EventError, match=r"^id: lone surrogate U\+DC80 at position 2 "):
            Event("x", id="ab\udc80")

    def test_unknown_argument(self) -> None:
        """A misspelt field is a TypeError, never an event that lacks it."""
        with pytest.raises(TypeError):
            Event("x", evnt="y")  # type: ignore[call-arg]


class TestFields:
    def test_defaults(self) -> None:
        """A field that is not given is None."""
        event = Event()

        assert (event.data, event.event, event.id, event.retry, event.comment) == (None,) * 5

    @pytest.mark.parametrize(
        ("given_data", "data"),
        [
            ("text", "text"),
            (b"caf\xc3\xa9", "caf\xe9"),
            (b"\xef\xbb\xbfa", "\ufeffa"),
            ("a\r\nb\rc\nd\n\r", "a\nb\nc\nd\n\n"),
            (b"a\r\nb", "a\nb"),
            ("", ""),
            (0, "0"),
            (False, "false"),
            ({}, "{}"),
            ({"b": 1, "a": ["\u2028", None]}, '{"b":1,"a":["\u2028",null]}'),
            ({1: 2, None: 3}, '{"1":2,"null":3}'),
            ("null", "null"),
        ],
    )
    def test_data(self, given_data: object, data: str) -> None:
        """Text and UTF-8 are taken as they are but for line ends; any other value becomes compact JSON."""
        assert Event(given_data).data == data

    def test_comment_lines(self) -> None:
        """A comment's line ends become LF like those of data."""
        assert Event(comment="a\r\nb\rc").comment == "a\nb\nc"

    def test_subclasses_of_str(self) -> None:
        """A subclass of str counts by its characters, whatever its own __str__ says."""
        red = Shouted("red")
        event = Event(red, event=red, id=red, comment=red)

        assert (event.data, event.event, event.id, event.comment) == ("red",) * 4
        assert {type(event.data), type(event.event), type(event.id), type(event.comment)} == {str}

    def test_subclass_of_int(self) -> None:
        """A subclass of int is a retry time by its value."""
        assert Event(retry=Wait.LONG).retry == 9000
        assert type(Event(retry=Wait.LONG).retry) is int


class TestFrozen:
    @pytest.mark.parametrize("name", ["data", "event", "id", "retry", "comment", "other"])
    def test_no_assignment(self, name: str) -> None:
        """No attribute of an event can be set, added or deleted."""
        with pytest.raises(AttributeError):
            setattr(FULL, name, None)
        with pytest.raises(AttributeError):
            delattr(FULL, name)

    def test_second_construction(self) -> None:
        """Calling the constructor again on an event cannot change it."""
        event = Event("x", id="1")
        with pytest.raises(TypeError, match="frozen"):
            event.__init__("y", id="2")  # type: ignore[call-arg]

        assert event == Event("x", id="1")

    def test_no_subclass(self) -> None:
        """An event cannot be subclassed, so no subclass can unfreeze it."""
        with pytest.raises(TypeError):
            type("Thawed", (Event,), {})


class TestValue:
    def test_equality_by_fields(self) -> None:
        """Events are equal if data, event, id and retry are; each of the four counts."""
        same = Event("x", event="update", id="7-0", retry=2500)

        assert same == FULL
        assert hash(same) == hash(FULL)
        for other in (
            Event("y", event="update", id="7-0", retry=2500),
            Event("x", event="other", id="7-0", retry=2500),
            Event("x", event="update", id="7-1", retry=2500),
            Event("x", event="update", id="7-0", retry=2501),
        ):
            assert other != FULL

    def test_comment_does_not_count(self) -> None:
        """A comment is not part of equality and hash, since it never reaches a consumer."""
        assert Event("x", comment="a") == Event("x", comment="b")
        assert len({Event("x", comment="a"), Event("x")}) == 1

    def test_nothing_is_not_the_empty_value(self) -> None:
        """An absent field differs from an empty one: no data from "", no id from the reset of ids, no retry from 0."""
        assert Event() != Event("")
        assert Event("x") != Event("x", id="")
        assert Event("x") != Event("x", retry=0)
        assert Event("x") != Event("x", event="message")

    def test_other_types(self) -> None:
        """An event equals nothing that is no event."""
        assert Event("x") != "x"
        assert Event("x") is not None
        assert Event("x").__eq__("x") is NotImplemented

    @given(events(with_data=False))
    def test_pickle_and_copy(self, event: Event) -> None:
        """Each field of an event survives pickle and copy, the comment too."""
        again = pickle.loads(pickle.dumps(event))

        assert again == event
        assert again.comment == event.comment
        assert copy.copy(event) is event
        assert copy.deepcopy([event])[0] is event

    def test_pickle_is_checked(self) -> None:
        """What a pickle brings in passes the same checks as the constructor's arguments."""
        make, fields = cast("tuple[Callable[..., Event], tuple[object, ...]]", FULL.__reduce__())
        with pytest.raises(EventError, match=r"^id: "):
            make(*(f"{value}\ndata: injected" if value == "7-0" else value for value in fields))

    @given(events(with_data=False))
    def test_repr(self, event: Event) -> None:
        """The repr is the call that makes the same event."""
        again = eval(repr(event))

        assert again == event
        assert again.comment == event.comment

    def test_repr_is_short(self) -> None:
        """The repr leaves out what is not set."""
        assert repr(Event("x", retry=5)) == "Event('x', retry=5)"
