# A topic of one loop: its log, its cursors, and what happens to cursors that the log leaves behind.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from sse_core.fanout.peer cimport Shared, Topic

cdef struct TopicLimits:    # the body of MAIL_OPEN, before the name
    uint64_t max_events
    uint64_t max_bytes
    uint64_t age            # milliseconds, 0 for no bound
    uint64_t lag            # bytes
    uint64_t floor          # id
    uint32_t policy
    uint32_t finite         # whether it has an end
    uint32_t name_size      # of the name as a JSON string

cdef Topic *topic_open(Shared *shared, uint32_t number, const TopicLimits *limits, const char *name) noexcept nogil
cdef void topic_free(Shared *shared, Topic *topic) noexcept nogil
cdef int topic_append(Shared *shared, Topic *topic, uint64_t ident, const char *frame, size_t size) noexcept nogil
cdef void topic_evict(Shared *shared, Topic *topic, uint64_t keep, int counter) noexcept nogil
cdef void topic_forget(Shared *shared, Topic *topic, uint64_t floor, uint8_t reason) noexcept nogil
cdef void topic_fan_out(Shared *shared, Topic *topic) noexcept nogil
cdef uint64_t topic_lag(const Topic *topic) noexcept nogil
cdef void topic_end(Shared *shared, Topic *topic) noexcept nogil
cdef void topic_measure(Topic *topic) noexcept nogil
