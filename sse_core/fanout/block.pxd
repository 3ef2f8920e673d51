# The blocks that the engine writes itself: an id alone, a reconnection time, a gap. Everything else comes framed.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from sse_core.ids cimport ID_TEXT_MAX

cdef enum:
    BLOCK_MAX = ID_TEXT_MAX + 16    # bytes of an id or a reconnection time with its field name and the blank line

cdef int block_comment(char *out) noexcept nogil
cdef int block_id(char *out, uint64_t ident) noexcept nogil
cdef int block_retry(char *out, uint64_t milliseconds) noexcept nogil
cdef size_t block_gap_max(size_t event_size, size_t topic_size) noexcept nogil
cdef int block_gap(char *out, const char *event, size_t event_size, const char *topic, size_t topic_size, uint64_t lost,
                   uint64_t asked, uint64_t oldest, const char *reason) noexcept nogil
