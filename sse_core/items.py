"""What a generator yields, as events: `Items`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sse_core.errors import EventError
from sse_core.event import Event

_KEYS = frozenset({"data", "event", "id", "retry", "comment"})


class Items:
    """Turns what one generator yields into events. Use it from one thread.

    An item is an `Event`; a str, or bytes in UTF-8; a dict with keys among ``data``, ``event``, ``id``, ``retry`` and
    ``comment``; or another JSON value, which is data. None is no item: ``yield meter.update()`` is enough. A ``retry`` or a
    ``comment`` without data is no event that could be kept and resumed, so it goes out with the next one.
    """

    def __init__(self) -> None:
        self._retry: int | None = None
        self._comment: str | None = None

    def event(self, item: object) -> Event | None:
        """Return the event of an item, or None if it goes out with the next one. Raises `EventError`."""
        made = item if isinstance(item, Event) else _made(item)
        if made.data is None:
            if made.event is not None or made.id is not None:
                raise EventError("data", "missing; an event without data is not dispatched by any client")
            self._retry = made.retry if made.retry is not None else self._retry
            self._comment = made.comment if made.comment is not None else self._comment
            return None
        if self._retry is not None or self._comment is not None:
            made = Event(
                made.data,
                event=made.event,
                id=made.id,
                retry=self._retry if made.retry is None else made.retry,
                comment=self._comment if made.comment is None else made.comment,
            )
            self._retry = self._comment = None
        return made


def _made(item: object) -> Event:
    if not isinstance(item, Mapping):
        return Event(item)
    fields: dict[str, Any] = dict(item)
    unknown = [key for key in fields if key not in _KEYS]
    if unknown or not fields:
        raise EventError(
            "data",
            f"a dict has keys among {', '.join(sorted(_KEYS))}, not {', '.join(map(repr, unknown)) or 'none'}; "
            'a JSON object goes under "data"',
        )
    return Event(fields.pop("data", None), **fields)
