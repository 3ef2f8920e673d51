"""What publish.lua puts on a topic's channel and into its stream, and the way back to events.

A live message holds one or more consecutive events of one topic, each as a line and what the line announces:

    <id> <before> <event's bytes or -> <comment's bytes or -> <retry or -> <data's bytes>LF event comment data

Any program that may publish can have written it, so nothing of it is believed.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

from sse_core.event cimport MAX_RETRY, Event, parsed_event
from sse_core.ids cimport SEQUENCE_BITS

from sse_core.errors import EventError, SSEError
from sse_core.ids import format_id

Entry = namedtuple("Entry", ("number", "before", "event"))
Entry.__doc__ = (
    "One event of a topic: its number, the number of the topic's event before it, and the event (its ``id`` is None)."
)

# PERF: a named tuple's own constructor costs as much as all the rest.
cdef object _new_tuple = tuple.__new__


class MessageError(SSEError, ValueError):
    """Another program's message, or entry of a stream, is none of ours. It cannot be delivered and has to be told as lost.

    ``number`` is that of the event, or None where not even that could be read; ``reason`` says what is wrong.
    """

    def __init__(self, number, reason):
        super().__init__(f"{'an event' if number is None else format_id(number)}: {reason}")
        self.number = number
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.number, self.reason)


cdef enum:
    # Of milliseconds (44 bits) and of a sequence (20 bits).
    MS_DIGITS = 14
    SEQUENCE_DIGITS = 7
    # Of a length: Redis holds no string above 512 MB.
    LENGTH_DIGITS = 10


cdef const char *_digits(const char *at, const char *end, int most, uint64_t *value) noexcept:
    """Read 1 to `most` digits; return the place after them, or NULL. A digit more than `most` is left where it is."""
    cdef const char *begin = at
    value[0] = 0
    while at < end and at[0] >= 48 and at[0] <= 57 and at - begin < most:
        value[0] = value[0] * 10 + <uint64_t>(at[0] - 48)
        at += 1
    if at == begin:
        return NULL
    return at


cdef const char *_id(const char *at, const char *end, uint64_t *number) noexcept:
    """Read an id; return the place after it, or NULL."""
    cdef uint64_t ms, seq
    at = _digits(at, end, MS_DIGITS, &ms)
    if at == NULL or at == end or at[0] != c"-":
        return NULL
    at = _digits(at + 1, end, SEQUENCE_DIGITS, &seq)
    if at == NULL or ms >> 44 or seq >> SEQUENCE_BITS:
        return NULL
    number[0] = ms << SEQUENCE_BITS | seq
    return at


cdef const char *_length(const char *at, const char *end, Py_ssize_t *length) noexcept:
    """Read the space before a field and what the field announces, -1 for "-"; return the place after it, or NULL."""
    cdef uint64_t value
    if end - at < 2 or at[0] != c" ":
        return NULL
    at += 1
    if at[0] == c"-":
        length[0] = -1
        return at + 1
    at = _digits(at, end, LENGTH_DIGITS, &value)
    length[0] = <Py_ssize_t> value
    return at


def parse_number(bytes text):
    """Return the number of an id's text, or None where it is no id. Thread-safe."""
    cdef const char *at = PyBytes_AS_STRING(text)
    cdef const char *end = at + PyBytes_GET_SIZE(text)
    cdef uint64_t number
    return number if _id(at, end, &number) == end else None


cdef Event _event(object number, const char *at, Py_ssize_t event_size, Py_ssize_t comment_size, int64_t retry,
                  Py_ssize_t data_size):
    """The event whose fields lie one after the other at `at`. A size below 0 says that there is no such field."""
    cdef Py_ssize_t before_comment = max(event_size, 0)
    cdef Py_ssize_t before_data = before_comment + max(comment_size, 0)
    cdef str event = None
    cdef str comment = None
    cdef str data
    try:
        if event_size >= 0:
            event = PyUnicode_DecodeUTF8(at, event_size, NULL)
        if comment_size >= 0:
            comment = PyUnicode_DecodeUTF8(at + before_comment, comment_size, NULL)
        data = PyUnicode_DecodeUTF8(at + before_data, data_size, NULL)
    except UnicodeDecodeError as error:
        raise MessageError(number, f"bytes are not UTF-8: {error.reason}") from None
    if event_size < 0 and comment_size < 0 and retry <= MAX_RETRY and memchr(at, c"\r", data_size) == NULL:
        # PERF: all that the constructor would check of such an event has been checked.
        return parsed_event(data, None, None, retry)
    try:
        return Event(data, event=event, comment=comment, retry=None if retry < 0 else retry)
    except EventError as error:
        raise MessageError(number, str(error)) from None


def decode(bytes payload):
    """Return the events of a live message, in order. Raise `MessageError`. Thread-safe."""
    cdef const char *at = PyBytes_AS_STRING(payload)
    cdef const char *end = at + PyBytes_GET_SIZE(payload)
    cdef const char *after
    cdef uint64_t number, before
    cdef Py_ssize_t event_size, comment_size, retry, data_size, size
    cdef list entries = []
    cdef object boxed
    if at == end:
        raise MessageError(None, "the message is empty")
    while at < end:
        after = _id(at, end, &number)
        if after == NULL:
            raise MessageError(None, "the message is malformed")
        at = after
        if at == end or at[0] != c" ":
            raise MessageError(number, "its line is malformed")
        at = _id(at + 1, end, &before)
        if at == NULL:
            raise MessageError(number, "it names no predecessor")
        at = _length(at, end, &event_size)
        if at != NULL:
            at = _length(at, end, &comment_size)
        if at != NULL:
            at = _length(at, end, &retry)
        if at != NULL:
            at = _length(at, end, &data_size)
        if at == NULL or data_size < 0 or at == end or at[0] != c"\n":
            raise MessageError(number, "its line is malformed")
        at += 1
        size = max(event_size, 0) + max(comment_size, 0) + data_size
        if size > end - at:
            raise MessageError(number, "the message ends too early")
        boxed = number
        event = _event(boxed, at, event_size, comment_size, retry, data_size)
        entries.append(_new_tuple(Entry, (boxed, before, event)))
        at += size
    return entries


def entry(bytes id, list fields):
    """Return one entry of a topic's stream: ``fields`` are names and values in turn. Raise `MessageError`. Thread-safe."""
    number = parse_number(id)
    if number is None:
        raise MessageError(None, "its id has more digits than ours")
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    before = parse_number(values.get(b"before", b""))
    if before is None:
        raise MessageError(number, "it names no predecessor")
    data, event, comment = values.get(b"data"), values.get(b"event"), values.get(b"comment")
    if data is None:
        raise MessageError(number, "it has no data")
    cdef Py_ssize_t retry = -1
    given = values.get(b"retry")
    if given is not None:
        if not given.isdigit() or len(given) > LENGTH_DIGITS:
            raise MessageError(number, "retry: is no number")
        retry = int(given)
    cdef bytes joined = (event or b"") + (comment or b"") + data
    made = _event(
        number,
        PyBytes_AS_STRING(joined),
        -1 if event is None else len(event),
        -1 if comment is None else len(comment),
        retry,
        len(data),
    )
    return _new_tuple(Entry, (number, before, made))
