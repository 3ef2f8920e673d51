# The ends of streams that wait to be asked for: bounded, and with a lock, since the loop adds and Python takes.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from sse_core.fanout.mailbox cimport pthread_mutex_t

cdef enum:
    # Of one loop; further ones are counted as unreported. As many as there can well be streams: who counts the streams of a
    # client by their ends must miss none, however many end at once. Pages that no report has touched cost nothing.
    REPORTS = 131072

cdef struct Report:
    uint64_t tag
    uint64_t duration       # milliseconds
    uint64_t events         # delivered
    uint64_t bytes          # sent
    char *request_id        # from malloc, the report's own; NULL for none
    uint8_t reason          # EndReason

cdef struct Reports:
    pthread_mutex_t lock
    uint32_t count
    bint wanted             # somebody has asked; until then nobody misses a report
    Report items[REPORTS]

cdef void reports_init(Reports *reports) noexcept nogil
cdef void reports_free(Reports *reports) noexcept nogil
cdef bint reports_add(Reports *reports, const Report *report) noexcept nogil
cdef char *copy_request_id(const char *text, uint32_t size) noexcept nogil
