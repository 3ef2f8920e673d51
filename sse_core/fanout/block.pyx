"""The blocks that the engine writes itself: a comment, an id alone, a reconnection time, a gap (HTML standard, section 9.2.6).

Each function writes at `out`, which has room, and returns how many bytes it wrote.
"""

from libc.string cimport memcpy, strlen

from sse_core.ids cimport digits_write, id_write


cdef int block_comment(char *out) noexcept nogil:
    """A block with only a comment: it says that the connection lives, and nothing else."""
    return _text(out, b":\n\n")


cdef int block_id(char *out, uint64_t ident) noexcept nogil:
    """A block with only an id: it moves the client's cursor and dispatches nothing."""
    cdef int size = _text(out, b"id: ")
    size += id_write(out + size, ident)
    return size + _text(out + size, b"\n\n")


cdef int block_retry(char *out, uint64_t milliseconds) noexcept nogil:
    """A block with only a reconnection time."""
    cdef int size = _text(out, b"retry: ")
    size += digits_write(out + size, milliseconds)
    return size + _text(out + size, b"\n\n")


cdef size_t block_gap_max(size_t event_size, size_t topic_size) noexcept nogil:
    """Room enough for a gap with a name and a topic of these sizes."""
    return event_size + topic_size + 3 * ID_TEXT_MAX + 96


cdef int block_gap(char *out, const char *event, size_t event_size, const char *topic, size_t topic_size, uint64_t lost,
                   uint64_t asked, uint64_t oldest, const char *reason) noexcept nogil:
    """A gap event. `topic` is a JSON string; `lost` is the last id that is lost; `asked` and `oldest` are null if 0."""
    cdef int size = _text(out, b"event: ")
    memcpy(out + size, event, event_size)
    size += <int>event_size
    size += _text(out + size, b"\nid: ")
    size += id_write(out + size, lost)
    size += _text(out + size, b'\ndata: {"topic":')
    memcpy(out + size, topic, topic_size)
    size += <int>topic_size
    size += _text(out + size, b',"asked":')
    size += _id_or_null(out + size, asked)
    size += _text(out + size, b',"oldest":')
    size += _id_or_null(out + size, oldest)
    size += _text(out + size, b',"reason":"')
    size += _text(out + size, reason)
    return size + _text(out + size, b'"}\n\n')


cdef int _text(char *out, const char *text) noexcept nogil:
    cdef int size = <int>strlen(text)
    memcpy(out, text, size)
    return size


cdef int _id_or_null(char *out, uint64_t ident) noexcept nogil:
    cdef int size
    if ident == 0:
        return _text(out, b"null")
    out[0] = 34
    size = 1 + id_write(out + 1, ident)
    out[size] = 34
    return size + 1
