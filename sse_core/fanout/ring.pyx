"""Many sends in one system call, where the kernel has io_uring and lets this process use it.

Rules:

1. Each send that was added has a result that says what send() would have said. What the kernel did not take, whatever the
   reason, is sent by send(); what it took is waited for. So no send is lost and none is made twice.
2. Where the kernel has taken a send and will not say what became of it, nobody knows: the result is -EIO, which ends the
   stream. Its client comes back with the last id that it has.
3. One thread makes the ring, uses it and frees it. A child of fork has a copy of the descriptor and the same memory: it
   unmaps and closes them, and touches nothing in them.
"""

from libc.errno cimport EAGAIN, EBADF, EBUSY, EINTR, EIO, ENOMEM, ENOSYS, EOPNOTSUPP, errno
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close

from sse_core.fanout.cell cimport index_get, index_set
from sse_core.fanout.socket cimport MSG_DONTWAIT, MSG_NOSIGNAL, send

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    /* Headers older than the kernel do not have them. The numbers are the same on all architectures but alpha. */
    #ifndef SYS_io_uring_setup
    #define SYS_io_uring_setup 425
    #endif
    #ifndef SYS_io_uring_enter
    #define SYS_io_uring_enter 426
    #endif
    static inline int enter(int ring, unsigned submit, unsigned complete, unsigned flags) {
        return (int)syscall(SYS_io_uring_enter, ring, submit, complete, flags, NULL, 0);
    }
    static inline int setup(unsigned entries, void *parameters) {
        return (int)syscall(SYS_io_uring_setup, entries, parameters);
    }
    """
    int enter(int ring, unsigned int submit, unsigned int complete, unsigned int flags) noexcept nogil
    int setup(unsigned int entries, void *parameters) noexcept nogil

# From the kernel's include/uapi/linux/io_uring.h, which the machine that compiles this need not have.
cdef enum:
    OPCODE_SEND = 26
    ENTER_GETEVENTS = 1
    FEATURE_SINGLE_MMAP = 1
    # Linux 5.12: memory is charged to the cgroup, not to RLIMIT_MEMLOCK, and what could not be sent at once no longer goes
    # to a thread that the kernel keeps for all.
    FEATURE_NATIVE_WORKERS = 512
    MAP_RINGS = 0
    MAP_SUBMISSIONS = 0x10000000

cdef struct SubmissionOffsets:
    uint32_t head
    uint32_t tail
    uint32_t mask
    uint32_t entries
    uint32_t flags
    uint32_t dropped
    uint32_t array
    uint32_t unused
    uint64_t address

cdef struct CompletionOffsets:
    uint32_t head
    uint32_t tail
    uint32_t mask
    uint32_t entries
    uint32_t overflow
    uint32_t completions
    uint32_t flags
    uint32_t unused
    uint64_t address

cdef struct Parameters:
    uint32_t submissions
    uint32_t completions
    uint32_t flags
    uint32_t thread_cpu
    uint32_t thread_idle
    uint32_t features
    uint32_t workers
    uint32_t unused[3]
    SubmissionOffsets submission
    CompletionOffsets completion

cdef enum:
    UNKNOWN = -0x80000000   # no result yet; no errno is that large


cdef int ring_init(Ring *ring) noexcept nogil:
    """Make a ring in any memory and try it. Return 0, or -errno where the system has none for us, and then nothing is left."""
    cdef Parameters parameters
    cdef uint32_t *places
    cdef char *base
    cdef int result = 0
    cdef int i
    memset(ring, 0, sizeof(Ring))
    memset(&parameters, 0, sizeof(parameters))
    ring.fd = setup(RING_SENDS, &parameters)
    if ring.fd < 0:
        result = -errno
        ring.fd = -1
        return result
    if not parameters.features & FEATURE_SINGLE_MMAP or not parameters.features & FEATURE_NATIVE_WORKERS:
        ring_free(ring)
        return -ENOSYS
    ring.rings_size = max(parameters.submission.array + parameters.submissions * sizeof(uint32_t),
                          parameters.completion.completions + parameters.completions * sizeof(Completion))
    ring.submissions_size = parameters.submissions * sizeof(Submission)
    ring.rings = _map(ring.fd, ring.rings_size, MAP_RINGS)
    ring.submissions = <Submission *>_map(ring.fd, ring.submissions_size, MAP_SUBMISSIONS)
    if ring.rings == NULL or ring.submissions == NULL:
        result = -errno
        ring_free(ring)
        return result
    base = <char *>ring.rings
    ring.taken = <uint32_t *>(base + parameters.submission.head)
    ring.given = <uint32_t *>(base + parameters.submission.tail)
    ring.seen = <uint32_t *>(base + parameters.completion.head)
    ring.completed = <uint32_t *>(base + parameters.completion.tail)
    ring.completions = <Completion *>(base + parameters.completion.completions)
    ring.completions_mask = parameters.completions - 1
    # What is the same for every send is written once.
    places = <uint32_t *>(base + parameters.submission.array)
    memset(ring.submissions, 0, ring.submissions_size)
    for i in range(RING_SENDS):
        places[i] = i
        ring.submissions[i].opcode = OPCODE_SEND
        ring.submissions[i].message_flags = MSG_NOSIGNAL | MSG_DONTWAIT
    # A filter may allow the one call and forbid the other: a send to no descriptor tells.
    ring.usable = True
    ring_add(ring, -1, NULL, 0)
    if ring_send(ring) != 1 or ring.results[0] != -EBADF:
        ring_free(ring)
        return -ENOSYS
    return 0


cdef void *_map(int fd, size_t size, long offset) noexcept nogil:
    cdef void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)
    return NULL if memory == MAP_FAILED else memory


cdef void ring_free(Ring *ring) noexcept nogil:
    """Give a ring back. Can be called twice, and for one that could not be made."""
    ring.usable = False
    if ring.rings != NULL:
        munmap(ring.rings, ring.rings_size)
        ring.rings = NULL
    if ring.submissions != NULL:
        munmap(ring.submissions, ring.submissions_size)
        ring.submissions = NULL
    if ring.fd >= 0:
        close(ring.fd)
        ring.fd = -1


cdef uint32_t ring_send(Ring *ring) noexcept nogil:
    """Make all sends that were added; `results` says what became of each. Return how many of them the kernel took here.

    A ring that has failed is not `usable` any more.
    """
    cdef uint32_t count = ring.count
    cdef uint32_t taken = 0
    cdef uint32_t done = 0
    cdef uint32_t before, i
    cdef int error = 0
    cdef Submission *submission
    for i in range(count):
        ring.results[i] = UNKNOWN
    index_set(ring.given, ring.start + count)
    while taken < count and error == 0:
        before = taken
        # Such a send never waits: the kernel has made it, or has refused it, when it returns.
        if enter(ring.fd, count - taken, 0, 0) < 0 and errno != EINTR:
            error = errno
        taken = index_get(ring.taken) - ring.start
        if taken == before and error == 0:
            error = EAGAIN
    done = _collect(ring)
    while done < taken:
        if enter(ring.fd, 0, taken - done, ENTER_GETEVENTS) < 0 and errno != EINTR:
            error = EIO
            break
        done += _collect(ring)
    # What the kernel has not read is taken back.
    index_set(ring.given, ring.start + taken)
    for i in range(taken, count):
        submission = &ring.submissions[(ring.start + i) & (RING_SENDS - 1)]
        ring.results[i] = <int32_t>send(submission.fd, <const void *>submission.address, submission.size,
                                        MSG_NOSIGNAL | MSG_DONTWAIT)
        if ring.results[i] < 0:
            ring.results[i] = -errno
    if done < taken:
        for i in range(taken):
            if ring.results[i] == UNKNOWN:
                ring.results[i] = -EIO
    ring.start += taken
    ring.count = 0
    if error == EBADF or error == EOPNOTSUPP:
        # The number is not ours any more: somebody has closed it, and perhaps it is another file by now.
        ring.fd = -1
    # For want of memory a ring may fail once and go on.
    if error and error != EAGAIN and error != EBUSY and error != ENOMEM:
        ring.usable = False
    return taken


cdef uint32_t _collect(Ring *ring) noexcept nogil:
    """Read the completions that are there; return how many."""
    cdef uint32_t at = ring.seen[0]
    cdef uint32_t stop = index_get(ring.completed)
    cdef uint32_t count = stop - at
    cdef Completion *completion
    while at != stop:
        completion = &ring.completions[at & ring.completions_mask]
        ring.results[completion.tag] = completion.result
        at += 1
    index_set(ring.seen, at)
    return count
