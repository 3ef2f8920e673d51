"""An event's bytes on the wire (HTML standard, section 9.2.5): count, allocate once, write.

Always LF, always `name: value` with the space, always in the order comment, event, id, retry, data. Nothing is checked
here, because an `Event` cannot hold what must not be written.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from sse_core.event cimport Event, checked_id, utf8

from sse_core.errors import EventError


cdef inline Py_ssize_t _lines(const char *at, Py_ssize_t size) noexcept nogil:
    """How many lines the text has: one more than its LFs."""
    cdef Py_ssize_t count = 1
    cdef const char *end = at + size
    cdef const char *found = <const char *> memchr(at, c"\n", size)
    while found != NULL:
        count += 1
        found = <const char *> memchr(found + 1, c"\n", end - found - 1)
    return count


cdef inline char *_put(
    char *to, const char *prefix, Py_ssize_t prefix_size, const char *at, Py_ssize_t size
) noexcept nogil:
    """Write one line and its LF; return where the next one goes."""
    memcpy(to, prefix, prefix_size)
    to += prefix_size
    memcpy(to, at, size)
    to += size
    to[0] = c"\n"
    return to + 1


cdef inline char *_put_lines(
    char *to, const char *prefix, Py_ssize_t prefix_size, const char *at, Py_ssize_t size
) noexcept nogil:
    """Write each line of the text with the prefix before it."""
    cdef const char *end = at + size
    cdef const char *found
    while True:
        found = <const char *> memchr(at, c"\n", end - at)
        if found == NULL:
            return _put(to, prefix, prefix_size, at, end - at)
        to = _put(to, prefix, prefix_size, at, found - at)
        at = found + 1


cdef inline Py_ssize_t _digits(int64_t value, char *to) noexcept nogil:
    """Write a non-negative integer in base ten at the *end* of `to[20]`; return how many digits it has."""
    cdef Py_ssize_t count = 0
    while True:
        count += 1
        to[20 - count] = <char> (c"0" + value % 10)
        value //= 10
        if value == 0:
            return count


cdef bytes frame_with_id(Event event, const char *id, Py_ssize_t id_len):
    cdef const char *data = NULL
    cdef const char *kind = NULL
    cdef const char *comment = NULL
    cdef Py_ssize_t data_len = 0
    cdef Py_ssize_t kind_len = 0
    cdef Py_ssize_t comment_len = 0
    cdef Py_ssize_t count
    cdef Py_ssize_t retry_len = 0
    cdef char retry[20]
    cdef Py_ssize_t size = 1

    # A line costs its prefix and an LF; all LFs of the text but the last line's are in its length already.
    if event.comment is not None:
        comment = utf8(event.comment, &comment_len)
        size += comment_len + 1 + 2 * _lines(comment, comment_len)
    if event.event is not None:
        kind = utf8(event.event, &kind_len)
        size += 7 + kind_len + 1
    if id != NULL:
        size += 4 + id_len + 1
    if event._retry_and_1 > 0:
        retry_len = _digits(event._retry_and_1 - 1, retry)
        size += 7 + retry_len + 1
    if event.data is not None:
        data = utf8(event.data, &data_len)
        count = _lines(data, data_len)
        size += data_len + 1 + 6 * count

    cdef bytes framed = PyBytes_FromStringAndSize(NULL, size)
    cdef char *to = PyBytes_AS_STRING(framed)
    if comment != NULL:
        to = _put_lines(to, ": ", 2, comment, comment_len)
    if kind != NULL:
        to = _put(to, "event: ", 7, kind, kind_len)
    if id != NULL:
        to = _put(to, "id: ", 4, id, id_len)
    if retry_len > 0:
        to = _put(to, "retry: ", 7, retry + 20 - retry_len, retry_len)
    if data != NULL:
        if count == 1:
            to = _put(to, "data: ", 6, data, data_len)
        else:
            to = _put_lines(to, "data: ", 6, data, data_len)
    to[0] = c"\n"
    return framed


def frame(Event event not None, id=None):
    """The event's bytes on the wire: UTF-8, LF line ends, closed by a blank line (HTML standard, section 9.2.5).

    ``id`` replaces the event's own id and is checked in the same way. The lines come in the order comment, event, id,
    retry, data. Safe to call from any thread.

    Raises:
        EventError: ``id`` cannot be put on the wire, or the event has no field at all and there is no ``id`` either.
    """
    cdef const char *at = NULL
    cdef Py_ssize_t size = 0
    cdef str text = event.id if id is None else checked_id(id)
    if text is not None:
        at = utf8(text, &size)
    elif event.data is None and event.event is None and event._retry_and_1 == 0 and event.comment is None:
        raise EventError("data", "the event has no field at all, so there is nothing to frame")
    return frame_with_id(event, at, size)
