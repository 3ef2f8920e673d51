"""What publish.lua puts on a topic's channel and into its stream, and the way back to events.

A live message holds one or more consecutive events of one topic, each as a line and what the line announces::

    <id> <before> <event's bytes or -> <comment's bytes or -> <retry or -> <data's bytes>LF event comment data

Any program that may publish can have written it, so nothing of it is believed.
"""

from __future__ import annotations

from typing import NamedTuple

from sse_core.errors import EventError, SSEError
from sse_core.event import Event
from sse_core.ids import format_id

_SEQUENCE_BITS = 20
_MAX_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_MAX_MILLISECONDS = (1 << 44) - 1
# Digits of the longest length that can be: Redis holds no string above 512 MB.
_MAX_DIGITS = 10


class Entry(NamedTuple):
    """One event of a topic: its number, the number of the topic's event before it, and the event (its ``id`` is None)."""

    number: int
    before: int
    event: Event


class MessageError(SSEError, ValueError):
    """Another program's message, or entry of a stream, is none of ours. It cannot be delivered and has to be told as lost.

    ``number`` is that of the event, or None where not even that could be read; ``reason`` says what is wrong.
    """

    def __init__(self, number: int | None, reason: str) -> None:
        super().__init__(f"{'an event' if number is None else format_id(number)}: {reason}")
        self.number = number
        self.reason = reason

    def __reduce__(self) -> tuple[type[MessageError], tuple[int | None, str]]:
        return type(self), (self.number, self.reason)


def parse_number(text: bytes) -> int | None:
    """The number of an id's text, or None where it is no id. Thread-safe."""
    milliseconds, _, sequence = text.partition(b"-")
    # The bound on length comes before int(): converting a text full of digits is quadratic work.
    if not (milliseconds.isdigit() and sequence.isdigit()) or len(milliseconds) > 14 or len(sequence) > 7:
        return None
    ms, seq = int(milliseconds), int(sequence)
    if ms > _MAX_MILLISECONDS or seq > _MAX_SEQUENCE:
        return None
    return ms << _SEQUENCE_BITS | seq


def decode(payload: bytes) -> list[Entry]:
    """Return the events of a live message, in order. Raise `MessageError`. Thread-safe."""
    entries: list[Entry] = []
    at, size = 0, len(payload)
    while at < size:
        end = payload.find(b"\n", at)
        head = payload[at : end if end >= 0 else size].split(b" ")
        number = parse_number(head[0])
        if number is None or end < 0 or len(head) != 6:
            raise MessageError(number, "its line is malformed")
        before = parse_number(head[1])
        if before is None:
            raise MessageError(number, "it names no predecessor")
        at = end + 1
        event_size, comment_size, retry, data_size = head[2], head[3], head[4], head[5]
        if not data_size.isdigit() or len(data_size) > _MAX_DIGITS:
            raise MessageError(number, "its line is malformed")
        event = comment = None
        if event_size != b"-":
            at, event = _cut(payload, at, event_size, number)
        if comment_size != b"-":
            at, comment = _cut(payload, at, comment_size, number)
        end = at + int(data_size)
        if end > size:
            raise MessageError(number, "the message ends too early")
        made = _event(number, event, comment, None if retry == b"-" else retry, payload[at:end])
        # PERF: a NamedTuple's own constructor costs as much as parsing an id.
        entries.append(tuple.__new__(Entry, (number, before, made)))
        at = end
    if not entries:
        raise MessageError(None, "the message is empty")
    return entries


def entry(id: bytes, fields: list[bytes]) -> Entry:
    """Return one entry of a topic's stream: ``fields`` are names and values in turn. Raise `MessageError`. Thread-safe."""
    number = parse_number(id)
    if number is None:
        raise MessageError(None, "its id has more digits than ours")
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    before = parse_number(values.get(b"before", b""))
    if before is None:
        raise MessageError(number, "it names no predecessor")
    data = values.get(b"data")
    if data is None:
        raise MessageError(number, "it has no data")
    made = _event(number, values.get(b"event"), values.get(b"comment"), values.get(b"retry"), data)
    return tuple.__new__(Entry, (number, before, made))


def _cut(payload: bytes, at: int, length: bytes, number: int) -> tuple[int, bytes]:
    """The bytes that a line announced, and the place after them."""
    if not length.isdigit() or len(length) > _MAX_DIGITS:
        raise MessageError(number, "its line is malformed")
    end = at + int(length)
    if end > len(payload):
        raise MessageError(number, "the message ends too early")
    return end, payload[at:end]


def _event(number: int, event: bytes | None, comment: bytes | None, retry: bytes | None, data: bytes) -> Event:
    try:
        if event is None and comment is None and retry is None:
            return Event(data)
        if retry is not None and (not retry.isdigit() or len(retry) > _MAX_DIGITS):
            raise MessageError(number, "retry: is no number")
        return Event(
            data,
            event=None if event is None else event.decode(),
            comment=None if comment is None else comment.decode(),
            retry=None if retry is None else int(retry),
        )
    except EventError as error:
        raise MessageError(number, str(error)) from None
    except UnicodeDecodeError as error:
        raise MessageError(number, f"bytes are not UTF-8: {error.reason}") from None
