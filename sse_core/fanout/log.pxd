# A topic's bounded log of framed bytes, with an index by id. It knows no descriptor, no clock and no thread.
#
#        head                                   tail            bytes, absolute offsets that only grow;
#         |                                      |              a byte's place is offset & (capacity - 1)
#   ring  [ frame ][ frame ][  frame  ][ frame ][ free ....
#            |        |         |         |
#   index  first   first+1     ...      next-1   next          entry numbers, which only grow;
#                                                               an entry's place is number & (slots - 1)
#   floor: every entry with a greater id is here; what is at or below it may be gone.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef struct Entry:
    uint64_t id
    uint64_t end        # offset of the first byte after the frame

cdef struct Log:
    char *ring          # NULL until the first append and again once empty: a quiet topic owns no bytes
    uint64_t capacity   # of the ring, a power of two
    uint64_t head       # these two, first and next are cells: other threads ask how much there is
    uint64_t tail
    Entry *index
    uint64_t slots      # of the index, a power of two
    uint64_t first
    uint64_t next
    uint64_t floor
    uint64_t max_events
    uint64_t max_bytes

cdef void log_init(Log *log, uint64_t floor, uint64_t max_events, uint64_t max_bytes) noexcept nogil
cdef void log_free(Log *log) noexcept nogil
cdef uint64_t log_excess(const Log *log, size_t size) noexcept nogil
cdef int log_append(Log *log, uint64_t ident, const char *frame, size_t size) noexcept nogil
cdef void log_evict(Log *log, uint64_t upto) noexcept nogil
cdef void log_shrink(Log *log) noexcept nogil
cdef uint64_t log_seek(const Log *log, uint64_t after) noexcept nogil
cdef uint64_t log_at(const Log *log, uint64_t offset) noexcept nogil
cdef int log_view(const Log *log, uint64_t start, uint64_t stop, iovec *out) noexcept nogil


cdef inline uint64_t log_bytes(const Log *log) noexcept nogil:
    return log.tail - log.head


cdef inline uint64_t log_id(const Log *log, uint64_t number) noexcept nogil:
    """The id of entry `number`, which must be in the log."""
    return log.index[number & (log.slots - 1)].id


cdef inline uint64_t log_start(const Log *log, uint64_t number) noexcept nogil:
    """The offset at which entry `number` starts; for `next`, the tail."""
    if number == log.first:
        return log.head
    return log.index[(number - 1) & (log.slots - 1)].end


cdef inline uint64_t log_id_before(const Log *log, uint64_t number) noexcept nogil:
    """The greatest id before entry `number`: of the entry before it, or the floor."""
    if number == log.first:
        return log.floor
    return log.index[(number - 1) & (log.slots - 1)].id
