# Many sends in one system call: a ring of submissions and one of completions, shared with the kernel (io_uring).
#
#   ring_add, ring_add ...           ring_send                        results[0], results[1] ...
#   [ fd, bytes | fd, bytes | ... ] --io_uring_enter, once--> kernel --> [ bytes sent, or -errno | ... ]
#
# Nothing is under way outside `ring_send`, so what was added need not live any longer than that call.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    # Sends of one system call, a power of two. PERF: with more, what the kernel holds for each falls out of the cache.
    RING_SENDS = 64

cdef struct Submission:     # the kernel's struct io_uring_sqe
    uint8_t opcode
    uint8_t flags
    uint16_t priority
    int32_t fd
    uint64_t offset
    uint64_t address
    uint32_t size
    uint32_t message_flags
    uint64_t tag            # comes back with the completion: the place in `results`
    uint64_t unused[3]

cdef struct Completion:     # struct io_uring_cqe
    uint64_t tag
    int32_t result
    uint32_t flags

cdef struct Ring:
    bint usable             # False: nobody may add; send() does it all
    int fd                  # -1: none
    uint32_t count          # sends added
    uint32_t start          # of submissions ever made: where the ones added begin
    uint32_t *taken         # the kernel's: submissions that it has read
    uint32_t *given         # ours: submissions that it may read
    uint32_t *seen          # ours: completions that have been read
    uint32_t *completed     # the kernel's
    Submission *submissions
    size_t submissions_size
    Completion *completions
    uint32_t completions_mask
    void *rings             # the memory of both
    size_t rings_size
    int32_t results[RING_SENDS]     # of the last `ring_send`: bytes sent, or -errno

cdef int ring_init(Ring *ring) noexcept nogil
cdef void ring_free(Ring *ring) noexcept nogil
cdef uint32_t ring_send(Ring *ring) noexcept nogil


cdef inline bint ring_add(Ring *ring, int fd, const void *data, size_t size) noexcept nogil:
    """Add a send of `size` bytes, fewer than 4 GiB. True if the ring is full: nothing more may be added before `ring_send`."""
    cdef Submission *submission = &ring.submissions[(ring.start + ring.count) & (RING_SENDS - 1)]
    submission.fd = fd
    submission.address = <uint64_t>data
    submission.size = <uint32_t>size
    submission.tag = ring.count
    ring.count += 1
    return ring.count == RING_SENDS
