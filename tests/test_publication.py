"""What a hub and a program without one take for an event that may be published."""

from __future__ import annotations

import pytest

from sse_core import Event, EventError, TopicError
from sse_core.publication import check_data, check_item, to_event


def test_arguments_become_the_event_that_they_describe() -> None:
    """Data and its fields make one event; data that is no text becomes JSON."""
    made = to_event({"n": 1}, event="made", id="k", retry=5)

    assert made == Event('{"n":1}', event="made", id="k", retry=5)


def test_an_event_is_taken_as_it_is() -> None:
    """An event that brings its own fields is not made anew."""
    event = Event("x", event="made", id="k")

    assert to_event(event, event=None, id=None, retry=None) is event
    assert check_item("a", event) is check_data(event) is event


@pytest.mark.parametrize("field", [{"event": "made"}, {"id": "k"}, {"id": ""}, {"retry": 0}])
def test_fields_beside_an_event_contradict_it(field: dict[str, str | int]) -> None:
    """A field given beside an event is refused, whichever it is and even if it is empty: neither of the two is ignored."""
    with pytest.raises(TypeError, match="its own event, id and retry"):
        to_event(Event("x"), **{"event": None, "id": None, "retry": None} | field)  # type: ignore[arg-type]


def test_an_event_without_data_is_not_published() -> None:
    """No client would dispatch it, so it is an error of the field data, alone and as an item of a batch."""
    for check in (check_data, lambda event: check_item("a", event)):
        with pytest.raises(EventError, match="missing") as caught:
            check(Event(None, event="made"))
        assert caught.value.field == "data"


@pytest.mark.parametrize("item", ["x", None, {"data": "x"}])
def test_an_item_has_an_event(item: object) -> None:
    """What is no event in a batch is a mistake in the program, and named by its type."""
    with pytest.raises(TypeError, match=f"not {type(item).__name__}"):
        check_item("a", item)


def test_an_item_has_a_topic() -> None:
    """A topic that cannot be one is refused before the event is looked at."""
    with pytest.raises(TopicError):
        check_item("a\n", Event(None))
