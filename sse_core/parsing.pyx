"""Wire bytes -> events, incrementally (HTML standard, section 9.2.6 "Interpreting an event stream").

Theory of operation:

1. Lines are found in the caller's chunk and read where they are. Only what the chunk leaves open is copied: the bytes
   of an incomplete line (`_tail`), and the data of an incomplete block (`_data`).
2. UTF-8 is decoded a field at a time. CR, LF and the colon are never part of a longer sequence and end a broken one, so
   that gives what decoding the whole stream would give.
3. No byte is looked at twice for line ends, whatever the chunks are: the next LF and the next CR are both remembered
   until they are passed. (Searching for both anew at each line would be quadratic on a stream that has only one.)
4. What is kept is bounded by `max_event_bytes`, and a verdict never depends on where the chunks were cut.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memcpy

from sse_core.event cimport MAX_RETRY, parsed_event, utf8

from sse_core.errors import ConfigurationError, ParseError

cdef const char *_BOM = "\xef\xbb\xbf"

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX


cdef struct Buffer:
    char *at
    Py_ssize_t size
    Py_ssize_t capacity


cdef int _append(Buffer *buffer, const char *at, Py_ssize_t size) except -1:
    cdef Py_ssize_t needed = buffer.size + size
    cdef Py_ssize_t capacity
    cdef char *grown
    if size == 0:
        return 0
    if needed > buffer.capacity:
        # Doubled, so that a line fed byte by byte is copied a constant number of times.
        capacity = max(needed, 2 * buffer.capacity, 256)
        grown = <char *> PyMem_Realloc(buffer.at, capacity)
        if grown == NULL:
            raise MemoryError
        buffer.at = grown
        buffer.capacity = capacity
    memcpy(buffer.at + buffer.size, at, size)
    buffer.size = needed
    return 0


cdef void _free(Buffer *buffer) noexcept:
    PyMem_Free(buffer.at)
    buffer.at = NULL
    buffer.size = 0
    buffer.capacity = 0


cdef inline int64_t _milliseconds(const char *at, Py_ssize_t size) noexcept nogil:
    """The value of ASCII digits, MAX_RETRY at most; -1 if there is anything else, or nothing."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if size == 0:
        return -1
    for i in range(size):
        if not c"0" <= at[i] <= c"9":
            return -1
        value = min(value * 10 + (at[i] - c"0"), MAX_RETRY)
    return value


@cython.final
cdef class EventParser:
    """EventParser(*, max_event_bytes=1048576)

    An incremental parser of one event stream, exactly by the HTML standard, section 9.2.6.

    A block that the end of the stream cuts off is never dispatched. A ``retry`` above 2**31 - 1 ms counts as that (see
    `Event`); one without digits is ignored. One parser belongs to one stream and one thread at a time.

    Args:
        max_event_bytes: the most bytes that one block may have, line ends included (CRLF counts as one), its closing
            blank line not. A comment line is measured by itself, since nothing of it is kept: a server may send
            comments for ever without a blank line.

    Attributes:
        last_event_id: what to send as ``Last-Event-ID`` when reconnecting. It changes when a block ends, with or
            without data; ``""`` at first.
        retry: the reconnection time in milliseconds that the stream set last, or None.

    Raises:
        ConfigurationError: ``max_event_bytes`` is no integer, or none between 1 and the largest size of an object.
    """

    cdef readonly str last_event_id
    cdef readonly Py_ssize_t max_event_bytes
    cdef int64_t _retry

    # The stream so far.
    cdef int _bom_seen             # bytes of a BOM matched at the start; 3: the start is past
    cdef bint _skip_lf             # the last chunk ended with CR: an LF now is its second half
    cdef str _failure              # why no call can succeed any more, or None
    cdef Buffer _tail              # the incomplete line
    cdef str _last_event_type
    cdef const char *_last_event_type_utf8
    cdef Py_ssize_t _last_event_type_size

    # The block so far. The data are at `_block_data`: in the chunk, in `_tail` or, from the second line on and between
    # two chunks, in `_data`.
    cdef Py_ssize_t _block_size
    cdef Py_ssize_t _block_data_lines
    cdef const char *_block_data
    cdef Py_ssize_t _block_data_size
    cdef bint _block_data_kept     # in `_data`
    cdef Buffer _data
    cdef str _block_event
    cdef str _block_id
    cdef int64_t _block_retry

    def __cinit__(self, *, max_event_bytes=1 << 20):
        if not isinstance(max_event_bytes, int) or isinstance(max_event_bytes, bool):
            raise ConfigurationError(f"max_event_bytes must be int, not {type(max_event_bytes).__name__}")
        if not 1 <= max_event_bytes <= PY_SSIZE_T_MAX:
            raise ConfigurationError(f"max_event_bytes must be between 1 and {PY_SSIZE_T_MAX}")
        self.max_event_bytes = max_event_bytes
        self.last_event_id = ""
        self._retry = -1
        self._block_retry = -1

    def __dealloc__(self):
        _free(&self._tail)
        _free(&self._data)

    @property
    def retry(self):
        return None if self._retry < 0 else self._retry

    def feed(self, chunk):
        """Take the next bytes of the stream, cut anywhere; return the events that they complete, in order.

        ``chunk`` is bytes or any other contiguous buffer; nothing refers to it afterwards. An event's ``data`` is str,
        ``event`` is None unless the block set a type, ``id`` and ``retry`` are what this very block set, else None.

        Raises:
            ParseError: a block exceeds ``max_event_bytes``. Events before it are returned first, and the next call
                raises, so that none is lost; at the end of the stream ``feed(b"")`` tells. Every later call raises too.
        """
        cdef Py_buffer view
        cdef list events = []
        if self._failure is None:
            PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE)
            try:
                self._feed(<const char *> view.buf, <const char *> view.buf + view.len, events)
            except BaseException as error:
                # Out of memory: a line may be lost, and the next one must not pass for what followed it.
                self._fail(f"an earlier call ended with {error!r}")
                raise
            finally:
                PyBuffer_Release(&view)
        if self._failure is not None and not events:
            raise ParseError(self._failure)
        return events

    cdef int _feed(self, const char *at, const char *end, list events) except -1:
        cdef const char *lf = NULL
        cdef const char *cr = NULL
        cdef const char *line_end
        cdef const char *next_line
        cdef Py_ssize_t size

        if self._bom_seen < 3:
            while at < end and self._bom_seen < 3 and at[0] == _BOM[self._bom_seen]:
                at += 1
                self._bom_seen += 1
            if at < end and self._bom_seen < 3:
                # No BOM after all: what looked like one begins the first line.
                _append(&self._tail, _BOM, self._bom_seen)
                self._bom_seen = 3
        if self._skip_lf and at < end:
            self._skip_lf = False
            if at[0] == c"\n":
                at += 1

        while at < end:
            if lf < at:
                # PERF: a line that is empty, as each block's last, needs no call.
                lf = at if at[0] == c"\n" else <const char *> memchr(at, c"\n", end - at)
                if lf == NULL:
                    lf = end
            if cr < at:
                cr = <const char *> memchr(at, c"\r", end - at)
                if cr == NULL:
                    cr = end
            line_end = lf if lf < cr else cr
            if line_end == end:
                break
            next_line = line_end + 1
            if line_end == cr:
                if next_line == end:
                    self._skip_lf = True
                elif next_line == lf:
                    next_line += 1
            size = self._tail.size + (line_end - at)
            if size == 0:
                self._dispatch(events)
            elif self._exceeds(at, size + 1):
                return self._fail_by_size()
            elif self._tail.size == 0:
                self._line(at, size)
            else:
                _append(&self._tail, at, line_end - at)
                self._line(self._tail.at, size)
                self._tail.size = 0
            at = next_line

        size = self._tail.size + (end - at)
        if size > 0 and self._exceeds(at, size):
            return self._fail_by_size()
        # The data first: they may be in `_tail`, which the incomplete line overwrites.
        self._keep_data()
        _append(&self._tail, at, end - at)
        return 0

    cdef inline bint _exceeds(self, const char *at, Py_ssize_t size) noexcept:
        """Whether the line, begun in `_tail` or here and this long so far, makes the block too large."""
        cdef char first = self._tail.at[0] if self._tail.size > 0 else at[0]
        if first == c":":
            return size > self.max_event_bytes
        return self._block_size + size > self.max_event_bytes

    cdef int _line(self, const char *at, Py_ssize_t size) except -1:
        """Process one complete line that is not empty."""
        cdef const char *end = at + size
        cdef const char *value
        cdef Py_ssize_t name_size
        # PERF: nearly all lines are these three, and need no call to look for the colon.
        if size > 4 and at[4] == c":" and memcmp(at, b"data", 4) == 0:
            self._block_size += size + 1
            value = at + 5
            if value < end and value[0] == c" ":
                value += 1
            return self._data_line(value, end - value)
        if size > 2 and at[2] == c":" and at[0] == c"i" and at[1] == c"d":
            self._block_size += size + 1
            value = at + 3
            if value < end and value[0] == c" ":
                value += 1
            return self._id_line(value, end - value)
        if size > 5 and at[5] == c":" and memcmp(at, b"event", 5) == 0:
            self._block_size += size + 1
            value = at + 6
            if value < end and value[0] == c" ":
                value += 1
            self._block_event = self._event_type(value, end - value) if value < end else None
            return 0
        value = <const char *> memchr(at, c":", size)
        if value == at:
            return 0  # a comment
        self._block_size += size + 1
        if value == NULL:
            name_size = size
            value = end
        else:
            name_size = value - at
            value += 1
            if value < end and value[0] == c" ":
                value += 1
        return self._field(at, name_size, value, end - value)

    cdef int _field(self, const char *name, Py_ssize_t name_size, const char *value, Py_ssize_t size) except -1:
        cdef int64_t retry
        if name_size == 4 and memcmp(name, "data", 4) == 0:
            self._data_line(value, size)
        elif name_size == 5 and memcmp(name, "event", 5) == 0:
            self._block_event = self._event_type(value, size) if size > 0 else None
        elif name_size == 2 and memcmp(name, "id", 2) == 0:
            self._id_line(value, size)
        elif name_size == 5 and memcmp(name, "retry", 5) == 0:
            retry = _milliseconds(value, size)
            if retry >= 0:
                self._retry = self._block_retry = retry
        return 0

    cdef inline int _data_line(self, const char *value, Py_ssize_t size) except -1:
        self._block_data_lines += 1
        if self._block_data_lines == 1:
            self._block_data = value
            self._block_data_size = size
            self._block_data_kept = False
        else:
            self._keep_data()
            _append(&self._data, "\n", 1)
            _append(&self._data, value, size)
            self._block_data = self._data.at
            self._block_data_size = self._data.size
        return 0

    cdef inline int _id_line(self, const char *value, Py_ssize_t size) except -1:
        if memchr(value, 0, size) == NULL:
            self._block_id = PyUnicode_DecodeUTF8(value, size, "replace")
        return 0

    cdef inline str _event_type(self, const char *value, Py_ssize_t size):
        """The type's str, the same object as long as the stream repeats it: few types, many events."""
        if self._last_event_type_size == size and memcmp(self._last_event_type_utf8, value, size) == 0:
            return self._last_event_type
        self._last_event_type_size = 0
        self._last_event_type = PyUnicode_DecodeUTF8(value, size, "replace")
        # It lives as long as the str.
        self._last_event_type_utf8 = utf8(self._last_event_type, &self._last_event_type_size)
        return self._last_event_type

    cdef int _keep_data(self) except -1:
        """Copy the block's data to `_data` unless they are there."""
        if self._block_data_lines > 0 and not self._block_data_kept:
            self._data.size = 0
            _append(&self._data, self._block_data, self._block_data_size)
            self._block_data = self._data.at
            self._block_data_kept = True
        return 0

    cdef int _dispatch(self, list events) except -1:
        if self._block_id is not None:
            self.last_event_id = self._block_id
        # One empty data line makes the standard's data buffer a lone LF, which is not the empty string: an event.
        if self._block_data_lines > 0:
            events.append(
                parsed_event(
                    PyUnicode_DecodeUTF8(self._block_data, self._block_data_size, "replace"),
                    self._block_event,
                    self._block_id,
                    self._block_retry,
                )
            )
        self._block_size = 0
        self._block_data_lines = 0
        self._block_event = None
        self._block_id = None
        self._block_retry = -1
        return 0

    cdef int _fail_by_size(self) except -1:
        return self._fail(f"a block has more than {self.max_event_bytes} bytes (max_event_bytes)")

    cdef int _fail(self, str failure) except -1:
        """Nothing that comes can be trusted to be a block's beginning, so the parser stays failed."""
        self._failure = failure
        self._block_data_lines = 0
        _free(&self._tail)
        _free(&self._data)
        return 0
