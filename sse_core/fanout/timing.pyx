"""Time in microseconds, and histograms of it. Knows nothing of loops."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from sse_core.fanout.cell cimport cell_add

cdef extern from *:
    """
    static const uint64_t sse_bounds_us[] = {
        50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000
    };
    """
    const uint64_t *sse_bounds_us


cdef uint64_t monotonic_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000


cdef uint64_t histogram_bound(int bucket) noexcept nogil:
    """The upper bound of a bucket, itself included, in microseconds."""
    return sse_bounds_us[bucket]


cdef void histogram_add(Histogram *histogram, uint64_t us, uint64_t times) noexcept nogil:
    """Note that something took so long, so many times."""
    cdef int bucket = 0
    while bucket < BOUNDS and us > sse_bounds_us[bucket]:
        bucket += 1
    cell_add(&histogram.counts[bucket], times)
    cell_add(&histogram.total, us * times)
