"""A topic's bounded log of framed bytes, with an index by id: the queue and the history in one.

Rules:

1. Entries are appended in the order of their ids and never changed.
2. Offsets and entry numbers only grow, so a cursor (an entry number) stays valid while the ring moves in memory.
3. Nothing is evicted on append: the caller asks `log_excess` first and sees to the cursors that would lose.
4. A log starts at zero bytes, doubles as it fills, and gives everything back when it is found empty (`log_shrink`).
"""

from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from sse_core.fanout.cell cimport cell_add, cell_set

cdef enum:
    FIRST_CAPACITY = 512
    FIRST_SLOTS = 8


cdef void log_init(Log *log, uint64_t floor, uint64_t max_events, uint64_t max_bytes) noexcept nogil:
    memset(log, 0, sizeof(Log))
    log.floor = floor
    log.max_events = max_events
    log.max_bytes = max_bytes


cdef void log_free(Log *log) noexcept nogil:
    free(log.ring)
    free(log.index)
    log.ring = NULL
    log.index = NULL
    log.capacity = 0
    log.slots = 0


cdef uint64_t log_excess(const Log *log, size_t size) noexcept nogil:
    """The first entry that may stay once a frame of `size` bytes has been appended.

    Entries below it are beyond a bound. A frame larger than `max_bytes` is kept alone: it has to be sent from somewhere.
    """
    cdef uint64_t keep = log.first
    if log.next - keep >= log.max_events:
        keep = log.next + 1 - log.max_events
    while keep < log.next and log.tail + size - log_start(log, keep) > log.max_bytes:
        keep += 1
    return keep


cdef int log_append(Log *log, uint64_t ident, const char *frame, size_t size) noexcept nogil:
    """Append one frame; `ident` must be above the last one. Return 0, or -ENOMEM with nothing changed."""
    cdef uint64_t place, room
    if log.next - log.first == log.slots and _grow_index(log) < 0:
        return -ENOMEM
    if log.tail + size - log.head > log.capacity and _grow_ring(log, size) < 0:
        return -ENOMEM
    place = log.tail & (log.capacity - 1)
    room = log.capacity - place
    if size <= room:
        memcpy(log.ring + place, frame, size)
    else:
        memcpy(log.ring + place, frame, room)
        memcpy(log.ring, frame + room, size - room)
    cell_add(&log.tail, size)
    log.index[log.next & (log.slots - 1)] = Entry(id=ident, end=log.tail)
    cell_add(&log.next, 1)
    return 0


cdef int _grow_index(Log *log) noexcept nogil:
    cdef uint64_t slots = log.slots * 2 if log.slots else FIRST_SLOTS
    cdef Entry *index = <Entry *>malloc(slots * sizeof(Entry))
    cdef uint64_t number
    if index == NULL:
        return -ENOMEM
    for number in range(log.first, log.next):
        index[number & (slots - 1)] = log.index[number & (log.slots - 1)]
    free(log.index)
    log.index = index
    log.slots = slots
    return 0


cdef int _grow_ring(Log *log, size_t size) noexcept nogil:
    cdef uint64_t capacity = log.capacity * 2 if log.capacity else FIRST_CAPACITY
    cdef uint64_t offset, run
    cdef char *ring
    while log.tail + size - log.head > capacity:
        capacity *= 2
    ring = <char *>malloc(capacity)
    if ring == NULL:
        return -ENOMEM
    offset = log.head
    while offset < log.tail:
        # As far as neither the old nor the new ring wraps.
        run = min(log.tail - offset,
                  log.capacity - (offset & (log.capacity - 1)),
                  capacity - (offset & (capacity - 1)))
        memcpy(ring + (offset & (capacity - 1)), log.ring + (offset & (log.capacity - 1)), run)
        offset += run
    free(log.ring)
    log.ring = ring
    log.capacity = capacity
    return 0


cdef void log_evict(Log *log, uint64_t upto) noexcept nogil:
    """Drop all entries below number `upto`; the floor rises to the id of the last one dropped."""
    if upto <= log.first:
        return
    log.floor = log_id(log, upto - 1)
    cell_set(&log.head, log_start(log, upto))
    cell_set(&log.first, upto)


cdef void log_shrink(Log *log) noexcept nogil:
    """Give the memory of an empty log back. Not part of `log_evict`: a log of one event would allocate on each append."""
    if log.first == log.next:
        log_free(log)


cdef uint64_t log_seek(const Log *log, uint64_t after) noexcept nogil:
    """The number of the first entry whose id is greater than `after`; `next` if there is none."""
    cdef uint64_t low = log.first
    cdef uint64_t high = log.next
    cdef uint64_t middle
    while low < high:
        middle = low + (high - low) // 2
        if log_id(log, middle) > after:
            high = middle
        else:
            low = middle + 1
    return low


cdef uint64_t log_at(const Log *log, uint64_t offset) noexcept nogil:
    """The number of the entry that holds the byte at `offset`; `next` for the tail."""
    cdef uint64_t low = log.first
    cdef uint64_t high = log.next
    cdef uint64_t middle
    while low < high:
        middle = low + (high - low) // 2
        if log.index[middle & (log.slots - 1)].end > offset:
            high = middle
        else:
            low = middle + 1
    return low


cdef int log_view(const Log *log, uint64_t start, uint64_t stop, iovec *out) noexcept nogil:
    """Describe the bytes of entries `start` to `stop` - 1 in one or two pieces; return how many (0 for no bytes)."""
    cdef uint64_t offset = log_start(log, start)
    cdef uint64_t size = log_start(log, stop) - offset
    cdef uint64_t place, room
    if size == 0:
        return 0
    place = offset & (log.capacity - 1)
    room = log.capacity - place
    out[0].iov_base = log.ring + place
    if size <= room:
        out[0].iov_len = size
        return 1
    out[0].iov_len = room
    out[1].iov_base = log.ring
    out[1].iov_len = size - room
    return 2


cdef class FrameLog:
    """The log behind a Python face, for tests and tools; the engine uses the struct itself. Not thread-safe."""

    cdef Log log

    def __cinit__(self, *, floor: int = 0, max_events: int = 1000, max_bytes: int = 1 << 20):
        log_init(&self.log, floor, max_events, max_bytes)

    def __dealloc__(self):
        log_free(&self.log)

    def append(self, uint64_t ident, bytes frame) -> None:
        """Append within the bounds: what `log_excess` names is evicted first, as the loop does it."""
        log_evict(&self.log, log_excess(&self.log, len(frame)))
        if log_append(&self.log, ident, frame, len(frame)) < 0:
            raise MemoryError

    def evict(self, uint64_t upto) -> None:
        """Drop all entries below number `upto`."""
        log_evict(&self.log, min(upto, self.log.next))
        log_shrink(&self.log)

    def seek(self, uint64_t after) -> int:
        """The number of the first entry whose id is greater than `after`."""
        return log_seek(&self.log, after)

    def at(self, uint64_t offset) -> int:
        """The number of the entry that holds the byte `offset` bytes after the log's first byte."""
        return log_at(&self.log, self.log.head + offset)

    def view(self, uint64_t start, uint64_t stop) -> list[bytes]:
        """The bytes of entries `start` to `stop` - 1, in the pieces that one `sendmsg` would get."""
        cdef iovec pieces[2]
        if not self.log.first <= start <= stop <= self.log.next:
            raise IndexError((start, stop))
        cdef int count = log_view(&self.log, start, stop, pieces)
        return [(<char *>pieces[i].iov_base)[:pieces[i].iov_len] for i in range(count)]

    @property
    def first(self) -> int:
        """The number of the oldest entry."""
        return self.log.first

    @property
    def next(self) -> int:
        """The number that the next entry will get."""
        return self.log.next

    @property
    def floor(self) -> int:
        """Every entry with a greater id is here."""
        return self.log.floor

    @property
    def capacity(self) -> int:
        """Bytes of the ring in memory."""
        return self.log.capacity
