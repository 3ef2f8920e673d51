"""What the other compiled modules may know of `Event`: its fields, its factory, its check of an id."""

cimport cython
from libc.stdint cimport int64_t


cdef enum:
    # Milliseconds, about 24.8 days. Timers in browsers are signed 32-bit integers: a longer wait would become none.
    MAX_RETRY = 0x7FFFFFFF


@cython.final
cdef class Event:
    # All strings here can be encoded as UTF-8. None of them holds a CR; `event` and `id` hold no LF, `id` no NUL.
    # `framing` writes them without looking again, so a field set past the constructor's checks is an injection.
    cdef readonly str data
    cdef readonly str event
    cdef readonly str id
    cdef readonly str comment
    # The milliseconds and one more, so that a fresh object, all zeros, has none. A C integer, so that the class holds
    # nothing the garbage collector must visit.
    cdef int64_t _retry_and_1
    cdef bint _is_made


# An event as a parser found it; the fields obey the rules above because lines and UTF-8 were decoded on the way.
# `retry` is -1 for none.
cdef Event parsed_event(str data, str event, str id, int64_t retry)

# The id as an exact str, or EventError("id", ...).
cdef str checked_id(object id)

# The UTF-8 form of a string that an Event holds or `checked_id` returned. Valid as long as the string lives.
cdef const char *utf8(str text, Py_ssize_t *size) except NULL
