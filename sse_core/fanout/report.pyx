"""The ends of streams that wait to be asked for. The loop's thread adds them, the door takes them, under one lock."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from sse_core.fanout.mailbox cimport (
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock,
)


cdef void reports_init(Reports *reports) noexcept nogil:
    """Prepare them in zeroed memory: pages that no report has touched cost nothing."""
    pthread_mutex_init(&reports.lock, NULL)


cdef void reports_free(Reports *reports) noexcept nogil:
    """Free what nobody has taken, once no thread can come any more."""
    cdef uint32_t i
    for i in range(reports.count):
        free(reports.items[i].request_id)
    pthread_mutex_destroy(&reports.lock)


cdef bint reports_add(Reports *reports, const Report *report) noexcept nogil:
    """Keep a report and what it owns, or drop both. False if somebody would have wanted it and there was no room."""
    cdef bint wanted
    cdef bint kept
    pthread_mutex_lock(&reports.lock)
    wanted = reports.wanted
    kept = wanted and reports.count < REPORTS
    if kept:
        reports.items[reports.count] = report[0]
        reports.count += 1
    pthread_mutex_unlock(&reports.lock)
    if not kept:
        free(report.request_id)
    return kept or not wanted


cdef char *copy_request_id(const char *text, uint32_t size) noexcept nogil:
    """A copy that ends in NUL; NULL for an empty one, and without memory: then the end is told without it."""
    cdef char *copy = NULL
    if size:
        copy = <char *>malloc(size + 1)
    if copy != NULL:
        memcpy(copy, text, size)
        copy[size] = 0
    return copy
