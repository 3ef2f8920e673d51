"""`Event`: one frozen, validated event. What cannot be put on the wire cannot be constructed."""

import json

cimport cython
from cpython.bytes cimport PyBytes_Check
from cpython.unicode cimport PyUnicode_Check, PyUnicode_FromObject
from libc.stdint cimport int64_t
from libc.string cimport memchr

from sse_core.errors import EventError

cdef extern from "Python.h":
    # Declared here because Cython's own declaration has no `except NULL`.
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

# NaN and Infinity are no JSON: a browser's JSON.parse would throw on them.
cdef object _encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


cdef const char *utf8(str text, Py_ssize_t *size) except NULL:
    return PyUnicode_AsUTF8AndSize(text, size)


cdef str _checked_text(str field, object value, const char **at, Py_ssize_t *size):
    """The value as an exact str, with its UTF-8 form."""
    if not PyUnicode_Check(value):
        raise EventError(field, f"must be str, not {type(value).__name__}")
    # A subclass of str (an enum's member, say) may override what it likes; its characters are what counts.
    cdef str text = PyUnicode_FromObject(value)
    try:
        at[0] = PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise EventError(
            field, f"lone surrogate U+{code:04X} at position {error.start} cannot be encoded as UTF-8"
        ) from None
    return text


cdef str _checked_lines(str field, object value):
    """Text of any number of lines, their ends turned into LF."""
    cdef const char *at
    cdef Py_ssize_t size
    cdef str text = _checked_text(field, value, &at, &size)
    if memchr(at, c"\r", size) != NULL:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text


cdef str _checked_data(object value):
    if PyUnicode_Check(value):
        return _checked_lines("data", value)
    if PyBytes_Check(value):
        try:
            return _checked_lines("data", value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise EventError("data", f"bytes are not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        text = _encode_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError("data", f"cannot be serialized as JSON: {error}") from error
    return _checked_lines("data", text)


cdef str _checked_event(object value):
    cdef const char *at
    cdef Py_ssize_t size
    cdef str text = _checked_text("event", value, &at, &size)
    if size == 0:
        raise EventError("event", "must not be empty, since a client takes that for no event type; leave it out")
    if memchr(at, c"\n", size) != NULL or memchr(at, c"\r", size) != NULL:
        raise EventError("event", "must not contain CR or LF")
    return text


cdef str checked_id(object id):
    cdef const char *at
    cdef Py_ssize_t size
    cdef str text = _checked_text("id", id, &at, &size)
    if memchr(at, c"\n", size) != NULL or memchr(at, c"\r", size) != NULL:
        raise EventError("id", "must not contain CR or LF")
    if memchr(at, 0, size) != NULL:
        raise EventError("id", "must not contain NUL, since a client ignores an id that does")
    return text


cdef int64_t _checked_retry(object value) except -1:
    if not isinstance(value, int) or isinstance(value, bool):
        raise EventError("retry", f"must be int (milliseconds), not {type(value).__name__}")
    if not 0 <= value <= MAX_RETRY:
        raise EventError("retry", f"must be between 0 and {MAX_RETRY} milliseconds")
    return value


# PERF: a parser makes the events of a chunk at once, and its caller drops them at once.
@cython.freelist(512)
@cython.final
cdef class Event:
    """Event(data=None, *, event=None, id=None, retry=None, comment=None)

    One event of an event stream (HTML standard, section 9.2.5); frozen, hashable, safe to share between threads.

    Args:
        data: the payload. A str is taken as it is. Bytes must be UTF-8. None means no data, and a client then
            dispatches nothing (a block that only sets the id or the retry time). Anything else is serialized as compact
            JSON; for the JSON value ``null`` give the str ``"null"``. An event stream cannot tell CR, LF and CRLF
            apart, so all of them are stored as LF.
        event: the event's type, not empty, without CR and LF. None means that a client takes ``"message"``.
        id: what a client sends back as ``Last-Event-ID``, without CR, LF and NUL. ``""`` makes it forget its id.
        retry: the client's reconnection time in milliseconds, 0 to 2**31 - 1.
        comment: text that no client sees; may have several lines. It is not part of equality and hash.

    Raises:
        EventError: a field has the wrong type or cannot be put on the wire. It names the field and says why.
    """

    def __init__(self, data=None, *, event=None, id=None, retry=None, comment=None):
        # Python lets anybody call this again, but the event may be in use by then.
        if self._is_made:
            raise TypeError("an Event is frozen: make another one")
        self._is_made = True
        if data is not None:
            self.data = _checked_data(data)
        if event is not None:
            self.event = _checked_event(event)
        if id is not None:
            self.id = checked_id(id)
        if retry is not None:
            self._retry_and_1 = _checked_retry(retry) + 1
        if comment is not None:
            self.comment = _checked_lines("comment", comment)

    @property
    def retry(self):
        return None if self._retry_and_1 == 0 else self._retry_and_1 - 1

    def __eq__(self, other):
        if not isinstance(other, Event):
            return NotImplemented
        cdef Event that = <Event> other
        return (
            self.data == that.data
            and self.event == that.event
            and self.id == that.id
            and self._retry_and_1 == that._retry_and_1
        )

    def __hash__(self):
        return hash((self.data, self.event, self.id, self._retry_and_1))

    def __repr__(self):
        parts = [] if self.data is None else [repr(self.data)]
        for name in ("event", "id", "retry", "comment"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name}={value!r}")
        return f"Event({', '.join(parts)})"

    def __reduce__(self):
        return _unpickled, (self.data, self.event, self.id, self.retry, self.comment)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


def _unpickled(data, event, id, retry, comment):
    return Event(data, event=event, id=id, retry=retry, comment=comment)


cdef Event parsed_event(str data, str event, str id, int64_t retry):
    cdef Event made = Event.__new__(Event)
    made.data = data
    made.event = event
    made.id = id
    made._retry_and_1 = retry + 1
    made._is_made = True
    return made
