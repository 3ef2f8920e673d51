"""What may be published: the checks that a hub and a program without one have in common."""

from __future__ import annotations

from sse_core.errors import EventError
from sse_core.event import Event
from sse_core.topics import check_topic


def to_event(data: object, *, event: str | None, id: str | None, retry: int | None) -> Event:
    """The event that the arguments of a ``publish`` describe. Raises `EventError`, or TypeError for an event twice."""
    if not isinstance(data, Event):
        return Event(data, event=event, id=id, retry=retry)
    if event is not None or id is not None or retry is not None:
        raise TypeError("an Event brings its own event, id and retry")
    return data


def check_item(topic: str, event: object) -> Event:
    """Return the event of a `(topic, Event)` item that may be published. Raises `TopicError`, `EventError`, TypeError."""
    if not isinstance(event, Event):
        raise TypeError(f"publish_many takes (topic, Event) items, not {type(event).__name__}")
    check_topic(topic)
    return check_data(event)


def check_data(event: Event) -> Event:
    """Return the event, unless it has no data. Raises `EventError`."""
    if event.data is None:
        raise EventError("data", "missing; an event without data is not dispatched by any client")
    return event
