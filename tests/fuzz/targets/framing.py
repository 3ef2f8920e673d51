"""`Event` and `frame`: whatever the constructor accepts means the same on the wire, and what it refuses names a field."""

from __future__ import annotations

from sse_core import Event, EventError, EventParser, frame

from .choices import Choices


def run(data: bytes) -> None:
    """Make an event of the bytes, frame it, and parse it between two others."""
    choices = Choices(data)
    given = choices.number(64)
    fields: dict[str, str | bytes | int] = {}
    if given & 1:
        fields["event"] = choices.text(40)
    if given & 2:
        fields["id"] = choices.text(40)
    if given & 4:
        fields["retry"] = choices.number(1 << 40) - 5
    if given & 8:
        fields["comment"] = choices.text(40)
    rest = choices.take(choices.left)
    try:
        event = Event(rest if given & 16 else rest.decode("utf-8", "replace"), **fields)
    except EventError as error:
        refused = error.field
        assert refused in ("data", *fields), fields
        return
    around = Event("around", id="a")
    found = EventParser().feed(frame(around) + frame(event) + frame(around))
    assert found == [around, event, around], (fields, rest)
