"""What a generator may yield."""

from __future__ import annotations

from typing import Any

import pytest

from sse_core import Event, EventError
from sse_core.items import Items


@pytest.mark.parametrize(
    ("item", "event"),
    [
        ("text", Event("text")),
        ("", Event("")),
        ("two\nlines", Event("two\nlines")),
        ("bytes, ü".encode(), Event("bytes, ü")),
        (Event("made", event="e"), Event("made", event="e")),
        ({"data": "d"}, Event("d")),
        (
            {"data": {"k": 1}, "event": "e", "id": "i", "retry": 5, "comment": "c"},
            Event({"k": 1}, event="e", id="i", retry=5, comment="c"),
        ),
        (7, Event(7)),
        ([1, "ü"], Event([1, "ü"])),
        (True, Event(True)),
    ],
)
def test_what_is_yielded_is_an_event(item: object, event: Event) -> None:
    """A str, bytes, an Event, a dict of an event's fields, and any other JSON value are events."""
    assert Items().event(item) == event


def test_a_retry_or_a_comment_goes_out_with_the_next_event() -> None:
    """A block without data cannot be resumed, so what it says is said with the next event; nothing of it is lost."""
    items = Items()

    assert items.event({"comment": "first"}) is None
    assert items.event({"comment": "hello"}) is None
    assert items.event({"retry": 5000}) is None
    assert items.event("x") == Event("x", retry=5000, comment="hello")
    assert items.event("y") == Event("y")


def test_nothing_is_no_item() -> None:
    """A generator that has nothing to say yields None, and nobody is sent anything."""
    assert Items().event(None) is None


def test_an_event_s_own_retry_counts() -> None:
    """What an item says itself wins over what was said before it."""
    items = Items()
    items.event({"retry": 1, "comment": "a"})

    assert items.event({"data": "x", "retry": 2, "comment": "b"}) == Event("x", retry=2, comment="b")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"token": "x"}, "'token'"),
        ({}, "none"),
        ({"data": "x", "sep": "\n"}, "'sep'"),
        ({"event": "e"}, "missing"),
        (Event(id="1"), "missing"),
        ({"data": "x", "event": "a\nb"}, "CR"),
        (object(), "JSON"),
        (float("nan"), "JSON"),
    ],
)
def test_what_is_no_event_is_refused(item: Any, reason: str) -> None:
    """An unknown key, a field without data and what is no JSON are errors that say which it is."""
    with pytest.raises(EventError) as caught:
        Items().event(item)
    assert reason.lower() in str(caught.value).lower()
