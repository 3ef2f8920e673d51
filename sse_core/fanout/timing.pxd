# Time in microseconds, and histograms of it: cells, which the loop's thread adds to and anybody reads.
from libc.stdint cimport uint64_t

cdef enum:
    BOUNDS = 17             # upper bounds of buckets; one more bucket has what is above all of them

cdef struct Histogram:
    uint64_t counts[BOUNDS + 1]     # cells, each of its bucket alone
    uint64_t total                  # cell: the sum of all that was added, in microseconds

cdef uint64_t monotonic_us() noexcept nogil
cdef uint64_t histogram_bound(int bucket) noexcept nogil
cdef void histogram_add(Histogram *histogram, uint64_t us, uint64_t times) noexcept nogil
