"""A topic of one loop: its log, its cursors, and what happens to cursors that the log leaves behind.

Rules:

1. An event is held once, in the log. Fan-out is one send of the same bytes for each caught-up cursor: many of them in one
   system call where there is a ring, else a `send()` each.
2. A log never drops what a healthy cursor still has to send: the append waits one turn instead (-EAGAIN), in which the
   cursor moves on. A blocked one falls under the topic's policy.
3. What the log cannot take for want of memory is counted, and each cursor is told a gap.
"""

from libc.errno cimport EAGAIN, errno
from libc.stdlib cimport calloc, free
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from sse_core.fanout.cell cimport cell_add, cell_set
from sse_core.fanout.log cimport (
    iovec, log_append, log_bytes, log_evict, log_excess, log_free, log_id_before, log_init, log_shrink, log_start, log_view,
)
from sse_core.fanout.peer cimport (
    COUNT_APPENDED, COUNT_APPENDED_BYTES, COUNT_COLLAPSED, COUNT_DELIVERED, COUNT_EVICTED_BY_BOUND, COUNT_HISTORY_BYTES,
    COUNT_HISTORY_EVENTS, COUNT_IO_URING, COUNT_LOST, COUNT_SENDS, COUNT_SENT_BYTES, COUNT_SKIPPED, COUNT_TOPICS,
    END_LAGGING, GAP_NONE, GAP_OVERFLOW, PEER_BLOCKED, PEER_CLOSING, PEER_DEAD, POLICY_DISCONNECT, POLICY_LATEST, Cursor,
    Peer, peer_end, peer_flush, peer_make_ready, peer_sent_short,
)
from sse_core.fanout.ring cimport RING_SENDS, ring_add, ring_free, ring_send
from sse_core.fanout.socket cimport MSG_DONTWAIT, MSG_NOSIGNAL, prefetch, send

cdef enum:
    NEVER = 0xFFFFFFFFFFFFFFFF
    # So many peers ahead are brought into the cache while one is sent to.
    PREFETCH = 4

cdef struct Fanout:         # one run of entries on its way to many
    uint64_t start
    uint64_t stop
    size_t size
    uint64_t sends
    uint64_t delivered      # peers that got all of it
    Peer *peers[RING_SENDS]     # of the sends that wait in the ring, in order


cdef Topic *topic_open(Shared *shared, uint32_t number, const TopicLimits *limits, const char *name) noexcept nogil:
    cdef Topic *topic = <Topic *>calloc(1, sizeof(Topic) + limits.name_size)
    if topic == NULL:
        return NULL
    log_init(&topic.log, limits.floor, limits.max_events, limits.max_bytes)
    topic.age = limits.age
    topic.lag = limits.lag
    topic.policy = <unsigned char>limits.policy
    topic.finite = limits.finite != 0
    topic.sent = NEVER
    topic.number = number
    topic.low = NEVER
    topic.name_size = limits.name_size
    memcpy(topic + 1, name, limits.name_size)
    cell_add(&shared.counts[COUNT_TOPICS], 1)
    return topic


cdef void topic_free(Shared *shared, Topic *topic) noexcept nogil:
    """Free a topic that has no cursor and is not dirty."""
    _account(shared, -<uint64_t>(topic.log.next - topic.log.first), -<uint64_t>log_bytes(&topic.log))
    log_free(&topic.log)
    free(topic.cursors)
    free(topic)
    cell_add(&shared.counts[COUNT_TOPICS], -<uint64_t>1)


cdef inline void _account(Shared *shared, uint64_t events, uint64_t size) noexcept nogil:
    cell_add(&shared.counts[COUNT_HISTORY_EVENTS], events)
    cell_add(&shared.counts[COUNT_HISTORY_BYTES], size)


cdef int topic_append(Shared *shared, Topic *topic, uint64_t ident, const char *frame, size_t size) noexcept nogil:
    """Append one frame within the bounds. 0, or -EAGAIN: flush first, then call again; nothing has changed."""
    cdef uint64_t keep = log_excess(&topic.log, size)
    if keep > topic.log.first:
        if _release(shared, topic, keep) < keep:
            return -EAGAIN
        _evict(shared, topic, keep, COUNT_EVICTED_BY_BOUND)
    if log_append(&topic.log, ident, frame, size) < 0:
        topic_forget(shared, topic, ident, GAP_OVERFLOW)
        cell_add(&shared.counts[COUNT_LOST], 1)
        return 0
    _account(shared, 1, size)
    cell_add(&shared.counts[COUNT_APPENDED], 1)
    cell_add(&shared.counts[COUNT_APPENDED_BYTES], size)
    if topic.count == 0:
        topic.fresh = topic.log.next
    elif not topic.dirty:
        topic.dirty = True
        topic.dirty_next = shared.dirty
        shared.dirty = topic
    return 0


cdef void topic_evict(Shared *shared, Topic *topic, uint64_t keep, int counter) noexcept nogil:
    """Drop entries below number `keep`, but none that a healthy cursor still has to send: they go at the next call."""
    keep = _release(shared, topic, keep)
    if keep > topic.log.first:
        _evict(shared, topic, keep, counter)
    log_shrink(&topic.log)


cdef void _evict(Shared *shared, Topic *topic, uint64_t keep, int counter) noexcept nogil:
    cdef uint64_t events = keep - topic.log.first
    cdef uint64_t size = log_bytes(&topic.log)
    log_evict(&topic.log, keep)
    # Nobody stands there any more, but a fan-out still asks for what lies between.
    topic.fresh = max(topic.fresh, keep)
    cell_add(&shared.counts[counter], events)
    _account(shared, -events, log_bytes(&topic.log) - size)


cdef uint64_t _release(Shared *shared, Topic *topic, uint64_t keep) noexcept nogil:
    """See to the cursors below `keep`: blocked ones fall under the policy. Return up to where the log may be evicted."""
    cdef uint64_t low = NEVER
    cdef Cursor *cursor
    cdef uint64_t i
    if topic.count == 0 or keep <= min(topic.low, topic.fresh):
        return keep
    # Healthy cursors first: they lower `keep`, and then fewer of the blocked ones are hit.
    for i in range(topic.count):
        cursor = topic.cursors[i]
        if not cursor.peer.flags & (PEER_BLOCKED | PEER_DEAD | PEER_CLOSING):
            keep = min(keep, cursor.next)
    for i in range(topic.count):
        cursor = topic.cursors[i]
        if cursor.next < keep and cursor.peer.flags & PEER_BLOCKED and not cursor.peer.flags & PEER_DEAD:
            _overflow(shared, topic, cursor)
        if cursor.next < topic.log.next and not cursor.peer.flags & PEER_DEAD:
            low = min(low, cursor.next)
    topic.low = low
    return keep


cdef void _overflow(Shared *shared, Topic *topic, Cursor *cursor) noexcept nogil:
    """Apply the topic's policy to a blocked subscriber that is too far behind."""
    if topic.policy == POLICY_DISCONNECT:
        # The client comes back with its last id and replays.
        peer_end(shared, cursor.peer, END_LAGGING)
    elif topic.policy == POLICY_LATEST:
        if cursor.next + 1 < topic.log.next:
            cell_add(&shared.counts[COUNT_COLLAPSED], topic.log.next - 1 - cursor.next)
            cursor.next = topic.log.next - 1
    else:
        _skip(shared, topic, cursor)


cdef void _skip(Shared *shared, Topic *topic, Cursor *cursor) noexcept nogil:
    """Let a cursor go on behind all there is, and note the gap. An end is never skipped: nothing else would be told."""
    cdef uint64_t stop = topic.log.next
    if topic.end == stop and stop > topic.log.first:
        stop -= 1
    if cursor.next < stop:
        if cursor.gap == GAP_NONE:
            cursor.gap = GAP_OVERFLOW
            cursor.asked = log_id_before(&topic.log, cursor.next)
        cell_add(&shared.counts[COUNT_SKIPPED], stop - cursor.next)
        cursor.next = stop


cdef void topic_forget(Shared *shared, Topic *topic, uint64_t floor, uint8_t reason) noexcept nogil:
    """Drop all entries: the log starts anew after id `floor`, and all who listen are told, as far as a loss concerns them."""
    cdef Cursor *cursor
    cdef uint64_t i
    for i in range(topic.count):
        cursor = topic.cursors[i]
        if cursor.gap == GAP_NONE and topic.policy != POLICY_LATEST:
            cursor.gap = reason
            cursor.asked = log_id_before(&topic.log, cursor.next)
        cursor.next = topic.log.next
        peer_make_ready(shared, cursor.peer)
    _account(shared, -<uint64_t>(topic.log.next - topic.log.first), -<uint64_t>log_bytes(&topic.log))
    log_evict(&topic.log, topic.log.next)
    log_free(&topic.log)
    topic.log.floor = floor
    topic.fresh = topic.log.next
    topic.low = NEVER
    # Whether it has ended is forgotten with the rest.
    topic.end = 0


cdef void topic_fan_out(Shared *shared, Topic *topic) noexcept nogil:
    """Bring all subscribers up to the end of the log, as far as their sockets take it."""
    cdef iovec pieces[2]
    cdef Fanout fanout
    cdef uint64_t start = topic.fresh
    cdef uint64_t stop = topic.log.next
    cdef uint64_t count = topic.count
    cdef bint ringing = shared.ring.usable and count >= shared.ring_from
    cdef uint64_t i
    cdef Cursor *cursor
    cdef Peer *peer
    cdef ssize_t sent
    cdef bint whole
    topic.dirty = False
    topic.fresh = stop
    if start == stop or count == 0:
        return
    whole = log_view(&topic.log, start, stop, pieces) == 1 and pieces[0].iov_len <= shared.ration
    fanout.start = start
    fanout.stop = stop
    fanout.size = pieces[0].iov_len
    fanout.sends = 0
    fanout.delivered = 0
    for i in range(count):
        if i + PREFETCH < count:
            prefetch(topic.cursors[i + PREFETCH])
        cursor = topic.cursors[i]
        peer = cursor.peer
        if peer.flags == 0 and peer.topics == 1 and cursor.next == start and whole:
            # The common case: the peer is where everybody is. No flag means no carry and no gap either.
            cursor.next = stop
            if ringing:
                fanout.peers[shared.ring.count] = peer
                if ring_add(&shared.ring, peer.fd, pieces[0].iov_base, fanout.size):
                    _ring_out(shared, &fanout)
                    ringing = shared.ring.usable
            else:
                sent = send(peer.fd, pieces[0].iov_base, fanout.size, MSG_NOSIGNAL | MSG_DONTWAIT)
                _note_sent(shared, &fanout, peer, sent if sent >= 0 else -errno)
        elif peer.flags & PEER_BLOCKED:
            if topic.log.tail - log_start(&topic.log, cursor.next) > topic.lag:
                _overflow(shared, topic, cursor)
        elif peer.flags == 0:
            peer_flush(shared, peer)
    if shared.ring.count:
        # Before the log can change: the ring has only the address of its bytes.
        _ring_out(shared, &fanout)
    cell_add(&shared.counts[COUNT_SENDS], fanout.sends)
    cell_add(&shared.counts[COUNT_DELIVERED], fanout.delivered * (stop - start))
    cell_add(&shared.counts[COUNT_SENT_BYTES], fanout.delivered * fanout.size)


cdef void _ring_out(Shared *shared, Fanout *fanout) noexcept nogil:
    """Make the sends that were added to the ring, and account for each."""
    cdef uint32_t count = shared.ring.count
    cdef uint32_t i
    ring_send(&shared.ring)
    for i in range(count):
        _note_sent(shared, fanout, fanout.peers[i], shared.ring.results[i])
    if not shared.ring.usable:
        ring_free(&shared.ring)
        cell_set(&shared.counts[COUNT_IO_URING], 0)


cdef inline void _note_sent(Shared *shared, Fanout *fanout, Peer *peer, ssize_t sent) noexcept nogil:
    """Account for one send of a fan-out: `sent` bytes, or -errno."""
    fanout.sends += 1
    if sent == <ssize_t>fanout.size:
        peer.sent_at = shared.now
        peer.bytes += fanout.size
        peer.events += fanout.stop - fanout.start
        fanout.delivered += 1
    else:
        peer_sent_short(shared, peer, fanout.start, fanout.stop, sent)


cdef uint64_t topic_lag(const Topic *topic) noexcept nogil:
    """How many bytes the blocked stream that is furthest behind still has to get."""
    cdef uint64_t lag = 0
    cdef uint64_t i
    for i in range(topic.count):
        if topic.cursors[i].peer.flags & PEER_BLOCKED:
            lag = max(lag, topic.log.tail - log_start(&topic.log, topic.cursors[i].next))
    return lag


cdef void topic_end(Shared *shared, Topic *topic) noexcept nogil:
    """Its last event is in the log: streams that have been sent it are complete."""
    cdef Cursor *cursor
    cdef uint64_t i
    topic.end = topic.log.next
    for i in range(topic.count):
        cursor = topic.cursors[i]
        if cursor.gap == GAP_OVERFLOW and cursor.next == topic.end and topic.end > topic.log.first:
            # It has skipped the last event, too, before anybody knew that it was that.
            cursor.next -= 1
            topic.low = min(topic.low, cursor.next)
            cell_add(&shared.counts[COUNT_SKIPPED], -<uint64_t>1)
        peer_make_ready(shared, cursor.peer)


cdef void topic_measure(Topic *topic) noexcept nogil:
    """Find the id up to which all of its streams have been sent; above all ids if it has none."""
    cdef uint64_t sent = NEVER
    cdef Cursor *cursor
    cdef uint64_t i
    for i in range(topic.count):
        cursor = topic.cursors[i]
        if not cursor.peer.flags & (PEER_DEAD | PEER_CLOSING):
            sent = min(sent, log_id_before(&topic.log, cursor.next))
    cell_set(&topic.sent, sent)
