"""What a publish request's body says, checked as a whole: JSON bytes in, events out. No HTTP in here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from sse_core import Event, EventError, TopicError, check_topic, frame

from .names import TopicNames
from .problems import Problem, event_problem, topic_problem
from .topics import RESERVED


class Publication(msgspec.Struct, forbid_unknown_fields=True):
    """One event as it is sent to ``POST /publish``.

    ``data`` stays raw: text is sent as that text, and any other value, null included, as its compact JSON, digit for
    digit as it was written (a round trip through Python would turn 1e400 into infinity and drop repeated keys).
    """

    topic: str
    data: msgspec.Raw
    event: str | None = None
    id: str | None = None
    retry: int | None = None


_decode = msgspec.json.Decoder(Publication).decode
_decode_text = msgspec.json.Decoder(str).decode
_compact = msgspec.json.format

# msgspec names the place at the end of its message, as in: Expected `int | null`, got `str` - at `$.retry`
_PLACE = re.compile(r" - at `\$\.([^`]*)`$")
# ... or the field itself, as in: Object missing required field `data`
_FIELD = re.compile(r"field `([^`]*)`")


def decode(body: bytes, line: int | None = None, *, names: TopicNames | None = None) -> tuple[str, Event]:
    """Return topic and event of one JSON object.

    Raises `Problem`: 400 for what is not JSON, 422 for an object that is no event, 403 for a topic of the server. With
    ``line`` the problem names it.
    """
    try:
        publication = _decode(body)
        topic = publication.topic
        if topic.startswith(RESERVED):
            raise Problem(403, "reserved-topic", f"Only the server publishes {topic!r}.", field="topic", line=line)
        if names is not None:
            names.check(topic)
        raw = bytes(publication.data)
        # The decoder checks the UTF-8 of what it decodes, and so not of what stays raw.
        data = _decode_text(raw) if raw.startswith(b'"') else _compact(raw, indent=-1).decode()
        return topic, Event(data, event=publication.event, id=publication.id, retry=publication.retry)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-event", str(error), field=_field_of(error), line=line) from None
    except TopicError as error:
        raise topic_problem(error, line=line) from None
    except EventError as error:
        raise event_problem(error, line=line) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid-json", str(error), line=line) from None
    except RecursionError:
        raise Problem(400, "invalid-json", "The value is nested too deeply.", line=line) from None


def decode_lines(
    body: bytes,
    *,
    max_events: int,
    names: TopicNames | None = None,
    check: Callable[[str, int], None] = lambda topic, line: None,
) -> list[tuple[str, Event]]:
    """Return topics and events of an ndjson body, in its order. Blank lines are skipped. ``check`` may refuse a topic.

    Raises `Problem` for the first bad line, and 413 for more than ``max_events``.
    """
    found: list[tuple[str, Event]] = []
    for number, line in _numbered(body):
        if len(found) == max_events:
            detail = f"A request takes at most {max_events} events."
            raise Problem(413, "too-large", detail, line=number, limit="max_batch_events", value=max_events)
        topic, event = decode(line, number, names=names)
        try:
            check_topic(topic)
        except TopicError as error:
            raise topic_problem(error, line=number) from None
        check(topic, number)
        found.append((topic, event))
    return found


def largest(body: bytes) -> int:
    """Return the number of the line with the largest event: the one to name when an event is too large."""
    return max(_numbered(body), key=lambda numbered: len(frame(decode(numbered[1])[1])))[0]


def _numbered(body: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(body.split(b"\n"), 1) if line and not line.isspace())


def _field_of(error: msgspec.ValidationError) -> str | None:
    match = _PLACE.search(str(error)) or _FIELD.search(str(error))
    return match[1] if match else None
