"""One subscriber: what is carried over first, then the logs of its topics, merged in the order of ids.

Rules:

1. A cursor always stands before a whole frame. What is left of a partly sent frame is copied to the peer's carry and goes
   out before anything else, so that no eviction can cut a frame in two.
2. Write first. EPOLLOUT is asked for after a short write only, and no longer than the peer is blocked.
3. Of several topics the entry with the lowest id goes first, and a gap is due at its own id: a client that leaves in
   between can resume from the last id it saw, whatever the topic.
4. Nothing is freed here. A dead peer is marked and reaped at the end of the turn.
"""

from libc.errno cimport EAGAIN, ENOMEM, errno
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

from sse_core.fanout.block cimport BLOCK_MAX, block_gap, block_gap_max, block_id
from sse_core.fanout.cell cimport cell_add, cell_set
from sse_core.fanout.log cimport iovec, log_at, log_id, log_id_before, log_seek, log_start, log_view
from sse_core.fanout.socket cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_RDWR,
    epoll_ctl, epoll_event, msghdr, send, sendmsg, shutdown,
)

cdef enum:
    RUNS = 32                           # runs of entries in one sendmsg, two pieces each
    NEVER = 0xFFFFFFFFFFFFFFFF          # an id above all ids

cdef struct Run:
    Cursor *cursor
    uint64_t start
    uint64_t stop


cdef size_t peer_size() noexcept nogil:
    return sizeof(Peer)


# ---- life ----

cdef Peer *peer_open(Shared *shared, int fd, uint64_t tag, Topic **topics, uint32_t count, uint64_t after,
                     uint32_t flags) noexcept nogil:
    """Make a peer of `fd` and place its cursors after the id `after`. NULL if that fails: `fd` is still the caller's."""
    cdef Peer *peer = <Peer *>calloc(1, sizeof(Peer))
    cdef epoll_event event
    cdef uint32_t i
    if peer == NULL:
        return NULL
    peer.fd = fd
    peer.tag = tag
    peer.cursors = &peer.only
    peer.sent_at = shared.now
    peer.opened_at = shared.now
    # Without a topic, as while draining, it is not one that will end by itself.
    peer.finite = count > 0
    if count > 1:
        peer.cursors = <Cursor *>calloc(count, sizeof(Cursor))
        if peer.cursors == NULL:
            free(peer)
            return NULL
    for i in range(count):
        if _join(peer, &peer.cursors[i], topics[i]) < 0:
            _undo_open(peer)
            return NULL
        _place(shared, &peer.cursors[i], after, flags)
        if not flags & ADOPT_FRESH:
            cell_add(&shared.counts[COUNT_REPLAYED], topics[i].log.next - peer.cursors[i].next)
    event.events = EPOLLIN | EPOLLRDHUP
    event.data.ptr = peer
    if epoll_ctl(shared.epoll, EPOLL_CTL_ADD, fd, &event) < 0 or _prime(shared, peer, after, flags) < 0:
        _undo_open(peer)
        return NULL
    _note_behind(peer)
    cell_add(&shared.counts[COUNT_STREAMS], 1)
    cell_add(&shared.counts[COUNT_ADOPTED], 1)
    peer_make_ready(shared, peer)
    return peer


cdef void _undo_open(Peer *peer) noexcept nogil:
    peer_leave(peer)
    if peer.cursors != &peer.only:
        free(peer.cursors)
    free(peer.carry)
    free(peer)


cdef int _join(Peer *peer, Cursor *cursor, Topic *topic) noexcept nogil:
    cdef uint64_t capacity
    cdef Cursor **cursors
    if topic.count == topic.capacity:
        capacity = topic.capacity * 2 if topic.capacity else 1
        cursors = <Cursor **>realloc(topic.cursors, capacity * sizeof(Cursor *))
        if cursors == NULL:
            return -ENOMEM
        topic.cursors = cursors
        topic.capacity = capacity
    peer.finite &= topic.finite
    cursor.peer = peer
    cursor.topic = topic
    cursor.place = <uint32_t>topic.count
    topic.cursors[topic.count] = cursor
    cell_set(&topic.count, topic.count + 1)
    peer.topics += 1
    return 0


cdef void peer_leave(Peer *peer) noexcept nogil:
    """Take the peer's cursors out of their topics. Never while a topic's cursors are being walked."""
    cdef Cursor *cursor
    cdef Topic *topic
    cdef Cursor *last
    cdef uint32_t i
    for i in range(peer.topics):
        cursor = &peer.cursors[i]
        topic = cursor.topic
        last = topic.cursors[topic.count - 1]
        topic.cursors[cursor.place] = last
        last.place = cursor.place
        cell_set(&topic.count, topic.count - 1)
        if topic.count == 0:
            free(topic.cursors)
            topic.cursors = NULL
            topic.capacity = 0
    peer.topics = 0


cdef void peer_free(Shared *shared, Peer *peer) noexcept nogil:
    """Close the descriptor and free the peer, which is in no topic, list or wheel any more."""
    epoll_ctl(shared.epoll, EPOLL_CTL_DEL, peer.fd, NULL)
    # A child that the application forked has a copy of the descriptor, and close() alone would end nothing.
    shutdown(peer.fd, SHUT_RDWR)
    close(peer.fd)
    _drop_carry(shared, peer)
    if peer.flags & PEER_BLOCKED:
        cell_add(&shared.counts[COUNT_BLOCKED_NOW], -<uint64_t>1)
    if peer.cursors != &peer.only:
        free(peer.cursors)
    free(peer.request_id)
    free(peer)


cdef void peer_end(Shared *shared, Peer *peer, uint8_t reason) noexcept nogil:
    """Mark a peer as dead. The first reason counts, and a drain that was under way stays the reason."""
    if peer.flags & PEER_DEAD:
        return
    if not peer.flags & PEER_CLOSING:
        peer.reason = reason
    peer.flags |= PEER_DEAD
    if not peer.flags & PEER_READY:
        peer.work_next = shared.dead
        shared.dead = peer


cdef void peer_make_ready(Shared *shared, Peer *peer) noexcept nogil:
    if not peer.flags & (PEER_READY | PEER_DEAD):
        peer.flags |= PEER_READY
        peer.work_next = shared.ready
        shared.ready = peer


# ---- where to begin ----

cdef void _place(Shared *shared, Cursor *cursor, uint64_t after, uint32_t flags) noexcept nogil:
    """Turn an id into a cursor, and note the gap where not everything after that id is left."""
    cdef Topic *topic = cursor.topic
    cdef uint8_t gap = GAP_NONE
    cursor.asked = after
    if flags & ADOPT_UNKNOWN:
        cursor.next = topic.log.first
        gap = GAP_UNKNOWN_ID
    elif after > shared.horizon:
        cursor.next = topic.log.first
        gap = GAP_UNKNOWN_ID
    else:
        cursor.next = log_seek(&topic.log, after)
        if after != 0 and after < shared.born:
            gap = GAP_RESTART
        elif after != 0 and after < topic.log.floor:
            gap = GAP_TRIMMED
    if topic.policy == POLICY_LATEST:
        # Only the current value matters, and nothing of it is lost.
        gap = GAP_NONE
        if cursor.next + 1 < topic.log.next:
            cursor.next = topic.log.next - 1
    cursor.gap = gap


cdef int _prime(Shared *shared, Peer *peer, uint64_t after, uint32_t flags) noexcept nogil:
    """Carry the current values of topics with policy latest to a fresh peer, then its priming id again.

    Their ids are at or below the priming id that the opening bytes held, so that it has to be said once more: else the
    client's cursor would have moved back.
    """
    cdef char block[BLOCK_MAX]
    cdef iovec pieces[2]
    cdef Topic *topic
    cdef uint64_t last
    cdef uint32_t i
    cdef int k
    if not flags & ADOPT_FRESH:
        return 0
    for i in range(peer.topics):
        topic = peer.cursors[i].topic
        if topic.policy != POLICY_LATEST or topic.log.next == topic.log.first:
            continue
        last = topic.log.next - 1
        if peer.cursors[i].next <= last:
            continue
        for k in range(log_view(&topic.log, last, topic.log.next, pieces)):
            if peer_carry(shared, peer, pieces[k].iov_base, pieces[k].iov_len) < 0:
                return -ENOMEM
        _delivered(shared, peer, 1)
    if peer.carry == NULL:
        return 0
    return peer_carry(shared, peer, block, block_id(block, after))


# ---- flushing ----

cdef void peer_flush(Shared *shared, Peer *peer) noexcept nogil:
    """Send what is due until the peer is caught up, blocked, dead, or out of its ration for this turn."""
    cdef iovec pieces[2 * RUNS]
    cdef Run runs[RUNS]
    cdef uint64_t left = shared.ration
    cdef uint64_t size = 0
    cdef int run_count = 0
    cdef int piece_count
    if peer.flags & (PEER_BLOCKED | PEER_DEAD | PEER_CLOSING):
        return
    if peer.flags & PEER_COLLAPSE:
        _collapse(shared, peer)
    while True:
        if peer.carry != NULL and not _send_carry(shared, peer):
            return
        piece_count = _gather(peer, left, runs, &run_count, pieces, &size)
        if piece_count == 0:
            if not _carry_gap(shared, peer):
                return
            continue
        cell_add(&shared.counts[COUNT_SENDS], 1)
        if not _advance(shared, peer, runs, run_count, _send_pieces(peer.fd, pieces, piece_count), size):
            return
        if size >= left:
            cell_add(&shared.counts[COUNT_RATIONED], 1)
            _note_behind(peer)
            peer_make_ready(shared, peer)
            return
        left -= size


cdef ssize_t _send_pieces(int fd, iovec *pieces, int count) noexcept nogil:
    """Return how many bytes went out, or -errno."""
    cdef msghdr message
    cdef ssize_t sent
    # One piece is the rule, and send() costs less than sendmsg().
    if count == 1:
        sent = send(fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
    else:
        memset(&message, 0, sizeof(message))
        message.msg_iov = pieces
        message.msg_iovlen = count
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
    return sent if sent >= 0 else -errno


cdef int _gather(Peer *peer, uint64_t left, Run *runs, int *run_count, iovec *pieces, uint64_t *size) noexcept nogil:
    """Describe the next entries in the order of ids, about `left` bytes of them; return how many pieces.

    The cursors are moved on at once; `_advance` moves them back over what was not sent. None is described when the
    peer is caught up or when a gap is due next.
    """
    cdef Cursor *first
    cdef Cursor *cursor
    cdef uint64_t key, first_key, second_key, stop, start_byte
    cdef int count = 0
    cdef uint32_t i
    run_count[0] = 0
    size[0] = 0
    while run_count[0] < RUNS and size[0] < left:
        first = NULL
        first_key = NEVER
        second_key = NEVER
        for i in range(peer.topics):
            cursor = &peer.cursors[i]
            key = _key(cursor)
            if key < first_key:
                second_key = first_key
                first_key = key
                first = cursor
            elif key < second_key:
                second_key = key
        if first == NULL or first.gap:
            break
        stop = first.topic.log.next
        if second_key != NEVER:
            # At least one entry, also where a gap of another topic is due at the very same id.
            stop = max(log_seek(&first.topic.log, second_key - 1), first.next + 1)
        start_byte = log_start(&first.topic.log, first.next)
        if log_start(&first.topic.log, stop) - start_byte > left - size[0]:
            stop = max(log_at(&first.topic.log, start_byte + left - size[0]), first.next + 1)
        size[0] += log_start(&first.topic.log, stop) - start_byte
        runs[run_count[0]] = Run(cursor=first, start=first.next, stop=stop)
        run_count[0] += 1
        count += log_view(&first.topic.log, first.next, stop, pieces + count)
        first.next = stop
    return count


cdef inline uint64_t _key(const Cursor *cursor) noexcept nogil:
    """The id at which this cursor's next item is due."""
    if cursor.gap:
        return log_id_before(&cursor.topic.log, cursor.next)
    if cursor.next < cursor.topic.log.next:
        return log_id(&cursor.topic.log, cursor.next)
    return NEVER


cdef bint _advance(Shared *shared, Peer *peer, Run *runs, int count, ssize_t sent, uint64_t size) noexcept nogil:
    """Account for a send of `sent` bytes (or -errno): True if all of it went out.

    Else the cursors are moved back, and the peer is blocked or dead.
    """
    cdef uint64_t left, run_size
    cdef int i = 0
    cdef int k
    if sent < 0:
        if sent != -EAGAIN:
            peer_end(shared, peer, END_ERROR)
            return False
        sent = 0
    left = <uint64_t>sent
    if left:
        _sent(shared, peer, left)
    while i < count:
        run_size = log_start(&runs[i].cursor.topic.log, runs[i].stop) - log_start(&runs[i].cursor.topic.log, runs[i].start)
        if run_size > left:
            break
        _delivered(shared, peer, runs[i].stop - runs[i].start)
        left -= run_size
        i += 1
    if i == count:
        return True
    # Backwards, since one topic can have several runs.
    for k in range(count - 1, i - 1, -1):
        runs[k].cursor.next = runs[k].start
    _sent_short(shared, runs[i].cursor, left)
    return False


cdef inline void _sent(Shared *shared, Peer *peer, uint64_t size) noexcept nogil:
    peer.sent_at = shared.now
    peer.bytes += size
    cell_add(&shared.counts[COUNT_SENT_BYTES], size)


cdef inline void _delivered(Shared *shared, Peer *peer, uint64_t events) noexcept nogil:
    peer.events += events
    cell_add(&shared.counts[COUNT_DELIVERED], events)


cdef void _sent_short(Shared *shared, Cursor *cursor, uint64_t sent) noexcept nogil:
    """Move a cursor on by `sent` bytes, carry the rest of the frame that was cut, and wait for the socket."""
    cdef Peer *peer = cursor.peer
    cdef iovec pieces[2]
    cdef uint64_t offset = log_start(&cursor.topic.log, cursor.next) + sent
    cdef uint64_t number = log_at(&cursor.topic.log, offset)
    cdef uint64_t skip = offset - log_start(&cursor.topic.log, number)
    cdef uint64_t part
    cdef int i
    _delivered(shared, peer, number - cursor.next)
    cursor.next = number
    if skip:
        for i in range(log_view(&cursor.topic.log, number, number + 1, pieces)):
            part = min(skip, pieces[i].iov_len)
            skip -= part
            if peer_carry(shared, peer, <char *>pieces[i].iov_base + part, pieces[i].iov_len - part) < 0:
                # Half a frame is on the wire and the other half has no place: this stream cannot go on.
                peer_end(shared, peer, END_ERROR)
                return
        _delivered(shared, peer, 1)
        cursor.next = number + 1
    _block(shared, peer)


cdef void peer_sent_short(Shared *shared, Peer *peer, uint64_t start, uint64_t stop, ssize_t sent) noexcept nogil:
    """What the fan-out calls for a peer of one topic whose send of entries `start` to `stop` - 1 fell short, or was -errno."""
    cdef Run run = Run(cursor=&peer.only, start=start, stop=stop)
    _advance(shared, peer, &run, 1, sent, 0)


cdef bint _send_carry(Shared *shared, Peer *peer) noexcept nogil:
    """Send what is carried: True if all of it went out."""
    cdef Carry *carry = peer.carry
    cdef ssize_t sent = send(peer.fd, <char *>(carry + 1) + carry.sent, carry.size - carry.sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT)
    cell_add(&shared.counts[COUNT_SENDS], 1)
    if sent < 0 and errno != EAGAIN:
        peer_end(shared, peer, END_ERROR)
        return False
    if sent > 0:
        carry.sent += <uint32_t>sent
        _sent(shared, peer, <uint64_t>sent)
    if carry.sent < carry.size:
        _block(shared, peer)
        return False
    _drop_carry(shared, peer)
    return True


cdef int peer_carry(Shared *shared, Peer *peer, const void *data, size_t size) noexcept nogil:
    """Add bytes to what goes out before anything else. Return 0 or -ENOMEM."""
    cdef size_t before = peer.carry.size if peer.carry else 0
    cdef Carry *carry = <Carry *>realloc(peer.carry, sizeof(Carry) + before + size)
    if carry == NULL:
        return -ENOMEM
    if peer.carry == NULL:
        carry.sent = 0
    memcpy(<char *>(carry + 1) + before, data, size)
    carry.size = <uint32_t>(before + size)
    peer.carry = carry
    cell_add(&shared.counts[COUNT_CARRIED_BYTES], size)
    return 0


cdef void _drop_carry(Shared *shared, Peer *peer) noexcept nogil:
    if peer.carry != NULL:
        cell_add(&shared.counts[COUNT_CARRIED_BYTES], -<uint64_t>peer.carry.size)
        free(peer.carry)
        peer.carry = NULL


# ---- being behind ----

cdef bint peer_is_caught_up(const Peer *peer) noexcept nogil:
    """Whether everything up to the horizon has been sent, so that the horizon may be told."""
    cdef uint32_t i
    if peer.carry != NULL:
        return False
    for i in range(peer.topics):
        if _key(&peer.cursors[i]) != NEVER:
            return False
    return True


cdef bint peer_is_complete(const Peer *peer) noexcept nogil:
    """Whether all of its topics have ended, and the last event of each has been sent."""
    cdef const Cursor *cursor
    cdef uint32_t i
    if not peer.finite or peer.carry != NULL:
        return False
    for i in range(peer.topics):
        cursor = &peer.cursors[i]
        if cursor.topic.end == 0 or cursor.next < cursor.topic.end or cursor.gap:
            return False
    return True


cdef void _note_behind(Peer *peer) noexcept nogil:
    """Tell the topics from where on this peer still needs their logs."""
    cdef Cursor *cursor
    cdef uint32_t i
    for i in range(peer.topics):
        cursor = &peer.cursors[i]
        if cursor.next < cursor.topic.log.next:
            cursor.topic.low = min(cursor.topic.low, cursor.next)


cdef void _block(Shared *shared, Peer *peer) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLOUT
    event.data.ptr = peer
    epoll_ctl(shared.epoll, EPOLL_CTL_MOD, peer.fd, &event)
    peer.flags |= PEER_BLOCKED
    cell_add(&shared.counts[COUNT_BLOCKED_NOW], 1)
    peer.blocked_at = shared.now
    cell_add(&shared.counts[COUNT_BLOCKED], 1)
    _note_behind(peer)


cdef void peer_unblock(Shared *shared, Peer *peer) noexcept nogil:
    """The socket takes bytes again: flush the peer in this turn, and ask for EPOLLOUT no longer."""
    cdef epoll_event event
    if not peer.flags & PEER_BLOCKED:
        return
    event.events = EPOLLIN | EPOLLRDHUP
    event.data.ptr = peer
    epoll_ctl(shared.epoll, EPOLL_CTL_MOD, peer.fd, &event)
    peer.flags = (peer.flags & ~PEER_BLOCKED) | PEER_COLLAPSE
    cell_add(&shared.counts[COUNT_BLOCKED_NOW], -<uint64_t>1)
    peer_make_ready(shared, peer)


cdef void _collapse(Shared *shared, Peer *peer) noexcept nogil:
    """Policy latest: of what came while the peer was blocked only the newest event is due."""
    cdef Cursor *cursor
    cdef uint32_t i
    peer.flags &= ~PEER_COLLAPSE
    for i in range(peer.topics):
        cursor = &peer.cursors[i]
        if cursor.topic.policy == POLICY_LATEST and cursor.next + 1 < cursor.topic.log.next:
            cell_add(&shared.counts[COUNT_COLLAPSED], cursor.topic.log.next - 1 - cursor.next)
            cursor.next = cursor.topic.log.next - 1


# ---- gaps ----

cdef bint _carry_gap(Shared *shared, Peer *peer) noexcept nogil:
    """If a gap is due next, carry its event: True if so. The id is the last one lost, so resuming from it is exact."""
    cdef Cursor *first = NULL
    cdef uint64_t first_key = NEVER
    cdef uint64_t key
    cdef const Log *log
    cdef char *frame
    cdef int size
    cdef uint32_t i
    for i in range(peer.topics):
        key = _key(&peer.cursors[i])
        if key < first_key:
            first_key = key
            first = &peer.cursors[i]
    if first == NULL or not first.gap:
        return False
    log = &first.topic.log
    frame = <char *>malloc(block_gap_max(shared.gap_event_size, first.topic.name_size))
    if frame == NULL:
        peer_end(shared, peer, END_ERROR)
        return False
    size = block_gap(frame, shared.gap_event, shared.gap_event_size, <char *>(first.topic + 1), first.topic.name_size,
                     log_id_before(log, first.next), first.asked,
                     log_id(log, first.next) if first.next < log.next else 0, _reason(first.gap))
    if peer_carry(shared, peer, frame, size) < 0:
        peer_end(shared, peer, END_ERROR)
    free(frame)
    cell_add(&shared.counts[COUNT_GAP_TRIMMED + first.gap - GAP_TRIMMED], 1)
    first.gap = GAP_NONE
    return not peer.flags & PEER_DEAD


cdef const char *_reason(uint8_t gap) noexcept nogil:
    if gap == GAP_TRIMMED:
        return b"trimmed"
    if gap == GAP_RESTART:
        return b"restart"
    if gap == GAP_UNKNOWN_ID:
        return b"unknown-id"
    return b"overflow"
