"""The turn: events, mail, fan-out, timers, drain, reap. Bytes go down, integers come up; Python is never called.

Rules:

1. This thread is the sole owner of its topics and peers, so they need no lock. Others post to the mailbox, read cells,
   and take reports.
2. Mail is read in order. When a log cannot take an event before a healthy subscriber has moved on, the rest of the mail
   waits for the next turn.
3. Whatever can take long is bounded per turn: input discarded from a peer, bytes sent to a peer, timers.
4. Dead peers are freed at the end of the turn, when no event of this turn can point at them any more.
"""

from libc.errno cimport EAGAIN, EINTR, ENOMEM, errno
from libc.stdlib cimport abort, calloc, free
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close

from sse_core.fanout.block cimport BLOCK_MAX, block_comment, block_id, block_retry
from sse_core.fanout.cell cimport cell_add, cell_set, slot_set
from sse_core.fanout.log cimport log_at, log_bytes, log_seek
from sse_core.fanout.mailbox cimport (
    APPEND_HISTORY, MAIL_ADOPT, MAIL_ADVANCE, MAIL_APPEND, MAIL_CLOSE, MAIL_DRAIN, MAIL_END, MAIL_EVICT, MAIL_FORGET,
    MAIL_MEASURE, MAIL_OPEN, MAIL_RESTART, MAIL_STOP, EVICT_TOPIC, Mail, mailbox_doze, mailbox_free, mailbox_init,
    mailbox_take,
)
from sse_core.fanout.peer cimport (
    COUNT_APPENDED, COUNT_BLOCKED_NOW, COUNT_DISCARDED_BYTES, COUNT_ENDED, COUNT_EVICTED_BY_AGE, COUNT_EVICTED_BY_TOTAL,
    COUNT_HISTORY_BYTES, COUNT_IO_URING, COUNT_KEEPALIVES, COUNT_LAG_BYTES, COUNT_REFUSED, COUNT_STREAMS, COUNT_UNREPORTED,
    END_CLIENT, END_CLOSED, END_COMPLETE, END_DRAINED, END_ERROR, END_EXPIRED, END_REVOKED, END_TIMEOUT, PEER_BLOCKED,
    PEER_CLOSING, PEER_DEAD, PEER_READY, Peer, peer_carry, peer_end, peer_flush, peer_free, peer_is_caught_up,
    peer_is_complete, peer_leave, peer_make_ready, peer_open, peer_unblock,
)
from sse_core.fanout.report cimport Report, copy_request_id, reports_add, reports_init
from sse_core.fanout.ring cimport ring_free, ring_init
from sse_core.fanout.socket cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, IPPROTO_TCP, MSG_DONTWAIT,
    SHUT_WR, TCP_NODELAY, TCP_USER_TIMEOUT, epoll_create1, epoll_ctl, epoll_event, epoll_wait, recv, setsockopt, shutdown,
)
from sse_core.fanout.timing cimport histogram_add, monotonic_us
from sse_core.fanout.topic cimport (
    TopicLimits, topic_append, topic_end, topic_evict, topic_fan_out, topic_forget, topic_free, topic_lag, topic_measure,
    topic_open,
)
from sse_core.fanout.wheel cimport SLOTS, TICK_MS, wheel_add, wheel_due, wheel_remove, wheel_wait
from sse_core.ids cimport SEQUENCE_BITS

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef enum:
    EVENTS = 512            # taken from epoll in one turn
    TIMERS = 512            # handled in one turn, most of them keepalives
    INPUT = 16384           # bytes of a client's input discarded at once
    INPUTS = 4              # such reads for one peer in one turn
    LINGER_MS = 2000        # how long a closing peer may take to close its end
    AGE_EVERY_MS = 1000
    REST_MS = 1000          # longest wait, so that the heartbeat moves
    DRAIN_STEP_MS = 10
    YIELDS = 32             # at most, before a fan-out
    VAIN_YIELDS = 3         # so many that brought nothing, and the burst is over


# ---- life ----

cdef int loop_init(Loop *loop, const LoopOptions *options) noexcept nogil:
    """Prepare a loop in zeroed memory. Return 0 or -errno, and then nothing is left open."""
    cdef epoll_event event
    cdef int result
    memset(loop, 0, sizeof(Loop))
    loop.options = options[0]
    loop.shared.born = options.born
    loop.shared.horizon = options.born
    loop.shared.ration = options.ration
    loop.shared.ring.fd = -1
    loop.shared.ring_from = options.ring_from
    loop.shared.gap_event = options.gap_event
    loop.shared.gap_event_size = options.gap_event_size
    loop.started_ms = monotonic_us() // 1000
    loop.random = _seed()
    # Zero pages of the kernel until they are touched, so a generous bound costs nothing; and it never moves.
    loop.topics = <Topic **>calloc(options.max_topics, sizeof(Topic *))
    loop.used = <uint64_t *>calloc(options.max_topics, sizeof(uint64_t))
    result = mailbox_init(&loop.mailbox, options.mailbox_bytes)
    if loop.topics == NULL or loop.used == NULL or result < 0:
        if result == 0:
            mailbox_free(&loop.mailbox)
            result = -ENOMEM
        free(loop.topics)
        free(loop.used)
        return result
    loop.shared.epoll = epoll_create1(EPOLL_CLOEXEC)
    event.data.ptr = NULL
    # Edge-triggered: each signal is an edge, and nobody has to read the counter.
    event.events = EPOLLIN | EPOLLET
    if loop.shared.epoll < 0 or epoll_ctl(loop.shared.epoll, EPOLL_CTL_ADD, loop.mailbox.eventfd, &event) < 0:
        result = -errno
        if loop.shared.epoll >= 0:
            close(loop.shared.epoll)
        mailbox_free(&loop.mailbox)
        free(loop.topics)
        free(loop.used)
        return result
    reports_init(&loop.reports)
    return 0


cdef void loop_free(Loop *loop) noexcept nogil:
    """Free what a loop owns, once its thread has ended (or in a child of fork, where the thread does not exist).

    Its counters and reports stay readable; the lock of the latter is the owner's to destroy.
    """
    cdef uint32_t number
    for number in range(loop.topics_end):
        if loop.topics[number] != NULL:
            topic_free(&loop.shared, loop.topics[number])
    free(loop.topics)
    free(loop.used)
    close(loop.shared.epoll)
    ring_free(&loop.shared.ring)
    mailbox_free(&loop.mailbox)


cdef void *loop_run(void *argument) noexcept nogil:
    """The thread."""
    cdef Loop *loop = <Loop *>argument
    cdef epoll_event events[EVENTS]
    cdef uint64_t began
    cdef int count, i
    # By the thread that uses it, for the kernel keeps an account of it for each thread that does.
    if loop.options.ring_from and ring_init(&loop.shared.ring) == 0:
        cell_set(&loop.shared.counts[COUNT_IO_URING], 1)
    while True:
        count = epoll_wait(loop.shared.epoll, events, EVENTS, _wait_ms(loop))
        began = monotonic_us()
        cell_add(&loop.heartbeat, 1)
        loop.now_ms = began // 1000 - loop.started_ms
        loop.shared.now = <uint32_t>(loop.now_ms // TICK_MS)
        for i in range(count):
            if events[i].data.ptr != NULL:
                _handle(loop, <Peer *>events[i].data.ptr, events[i].events)
        _read_mail(loop)
        if loop.shared.dirty != NULL:
            _gather_burst(loop)
        _flush(loop)
        if loop.arrived:
            _time_arrivals(loop)
        _run_timers(loop)
        if loop.draining:
            _drain(loop)
        if loop.now_ms - loop.aged_ms >= AGE_EVERY_MS:
            _evict_by_age(loop)
        if loop.shared.counts[COUNT_HISTORY_BYTES] > loop.options.history_bytes:
            _evict_by_total(loop)
        if loop.stopping:
            _end_all(loop)
        _reap(loop)
        histogram_add(&loop.turns, monotonic_us() - began, 1)
        if loop.stopping:
            ring_free(&loop.shared.ring)
            cell_set(&loop.shared.counts[COUNT_IO_URING], 0)
            return NULL


cdef int _wait_ms(Loop *loop) noexcept nogil:
    """How long the turn may wait for an event, in milliseconds."""
    cdef uint64_t rest = REST_MS
    cdef uint64_t due
    if loop.mail_at < loop.mail_size or loop.shared.ready != NULL or loop.timers_left:
        return 0
    if not mailbox_doze(&loop.mailbox):
        return 0
    if loop.shared.counts[COUNT_STREAMS]:
        due = <uint64_t>(loop.wheel.at + wheel_wait(&loop.wheel, REST_MS // TICK_MS)) * TICK_MS
        due = due - loop.now_ms if due > loop.now_ms else 0
        rest = min(rest, due)
    if loop.draining:
        rest = min(rest, <uint64_t>DRAIN_STEP_MS)
    return <int>rest


cdef uint64_t _seed() noexcept nogil:
    # Nanoseconds differ between loops and between processes; 0 would stay 0 for ever.
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return (<uint64_t>now.tv_sec << 30 ^ <uint64_t>now.tv_nsec) | 1


cdef uint64_t _random(Loop *loop) noexcept nogil:
    # xorshift: jitter needs no more.
    loop.random ^= loop.random << 13
    loop.random ^= loop.random >> 7
    loop.random ^= loop.random << 17
    return loop.random


# ---- events ----

cdef void _handle(Loop *loop, Peer *peer, uint32_t events) noexcept nogil:
    if peer.flags & PEER_DEAD:
        return
    if events & (EPOLLHUP | EPOLLERR):
        peer_end(&loop.shared, peer, END_CLIENT)
        return
    if events & (EPOLLIN | EPOLLRDHUP):
        _discard_input(loop, peer)
    if events & EPOLLOUT and not peer.flags & PEER_DEAD:
        peer_unblock(&loop.shared, peer)


cdef void _discard_input(Loop *loop, Peer *peer) noexcept nogil:
    """Read and forget what the client sends. The end of its input is the end of the stream, as for nginx."""
    cdef char scratch[INPUT]
    cdef ssize_t size
    cdef int _
    for _ in range(INPUTS):
        size = recv(peer.fd, scratch, INPUT, MSG_DONTWAIT)
        if size <= 0:
            if size == 0 or (errno != EAGAIN and errno != EINTR):
                peer_end(&loop.shared, peer, END_CLIENT)
            return
        cell_add(&loop.shared.counts[COUNT_DISCARDED_BYTES], <uint64_t>size)
        if size < INPUT:
            return


# ---- mail ----

cdef void _read_mail(Loop *loop) noexcept nogil:
    cdef Mail *mail
    cdef Topic *topic
    if loop.mail_at == loop.mail_size:
        loop.mail_at = 0
        loop.mail_size = mailbox_take(&loop.mailbox)
    while loop.mail_at < loop.mail_size:
        mail = <Mail *>(loop.mailbox.taken + loop.mail_at)
        if mail.kind == MAIL_APPEND:
            topic = loop.topics[mail.topic]
            if topic_append(&loop.shared, topic, mail.id, <char *>(mail + 1), mail.body) == -EAGAIN:
                return
            if not mail.flags & APPEND_HISTORY:
                loop.shared.horizon = mail.id
                # Nobody is woken for a topic that nobody listens to.
                if topic.count:
                    _note_arrival(loop, mail.tag)
        elif mail.kind == MAIL_ADOPT:
            _adopt(loop, mail)
        elif mail.kind == MAIL_OPEN:
            _open_topic(loop, mail)
        elif mail.kind == MAIL_CLOSE:
            _close_topic(loop, mail.topic)
        elif mail.kind == MAIL_ADVANCE:
            loop.shared.horizon = max(loop.shared.horizon, mail.id)
        elif mail.kind == MAIL_FORGET:
            # What came before this mail goes out first, to those whose sockets take it.
            _flush(loop)
            topic_forget(&loop.shared, loop.topics[mail.topic], mail.id, <uint8_t>mail.flags)
        elif mail.kind == MAIL_RESTART:
            loop.shared.born = mail.id
            loop.shared.horizon = mail.tag
        elif mail.kind == MAIL_END:
            topic_end(&loop.shared, loop.topics[mail.topic])
        elif mail.kind == MAIL_MEASURE:
            topic_measure(loop.topics[mail.topic])
        elif mail.kind == MAIL_EVICT:
            _evict_streams(loop, mail)
        elif mail.kind == MAIL_DRAIN:
            _begin_drain(loop, mail.id, mail.tag)
        elif mail.kind == MAIL_STOP:
            loop.stopping = True
        loop.mail_at += mail.size
        cell_add(&loop.read, mail.size)


cdef void _gather_burst(Loop *loop) noexcept nogil:
    """While events come in bursts, let those who are publishing get on before the fan-out: it then sends more at once.

    PERF: a fan-out costs nearly the same for one event as for twenty. Where publishers share the loop's core it would
    start after the first event of a burst and make the rest wait for it. Single events are never held up: the fan-out
    before must have found several.
    """
    cdef uint64_t before
    cdef int vain = 0
    cdef int _
    if loop.bursty:
        for _ in range(YIELDS):
            before = loop.read
            sched_yield()
            _read_mail(loop)
            vain = vain + 1 if loop.read == before else 0
            if vain == VAIN_YIELDS:
                break
    loop.bursty = loop.shared.counts[COUNT_APPENDED] - loop.fanned_out > 1
    loop.fanned_out = loop.shared.counts[COUNT_APPENDED]


cdef void _open_topic(Loop *loop, Mail *mail) noexcept nogil:
    cdef TopicLimits *limits = <TopicLimits *>(mail + 1)
    cdef Topic *topic = topic_open(&loop.shared, mail.topic, limits, <char *>(limits + 1))
    # Without memory for a topic the process cannot go on: its events would be lost without anybody to tell.
    if topic == NULL:
        abort()
    slot_set(<void **>&loop.topics[mail.topic], topic)
    loop.topics_end = max(loop.topics_end, mail.topic + 1)


cdef void _close_topic(Loop *loop, uint32_t number) noexcept nogil:
    # The hub closes idle topics only, so nobody is subscribed; a topic of this turn may still be on the dirty list.
    cdef Topic *topic = loop.topics[number]
    _flush(loop)
    slot_set(<void **>&loop.topics[number], NULL)
    topic_free(&loop.shared, topic)


cdef void _adopt(Loop *loop, Mail *mail) noexcept nogil:
    cdef uint32_t lasts = (<uint32_t *>(mail + 1))[0]
    cdef uint32_t *numbers = <uint32_t *>(mail + 1) + 1
    cdef Topic *topics[1024]
    cdef Peer *peer
    cdef uint32_t i
    cdef uint32_t count = mail.topic
    cdef int on = 1
    cdef unsigned int timeout = loop.options.send_timeout_ms
    cdef uint32_t first = min(loop.options.keepalive_ms, loop.options.send_timeout_ms)
    # Both fail on a unix socket, where neither is needed.
    setsockopt(mail.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    setsockopt(mail.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout))
    if loop.draining:
        count = 0
        cell_add(&loop.shared.counts[COUNT_REFUSED], 1)
    for i in range(count):
        topics[i] = loop.topics[numbers[i]]
    peer = peer_open(&loop.shared, mail.fd, mail.tag, topics, count, mail.id, mail.flags)
    if peer == NULL:
        # No memory, or no room in epoll: the client sees its connection end and comes back.
        close(mail.fd)
        cell_add(&loop.shared.counts[COUNT_REFUSED], 1)
        cell_add(&loop.gone, 1)
        _report(loop, Report(tag=mail.tag, reason=END_ERROR, request_id=_request_id(mail), duration=0, events=0, bytes=0))
        return
    peer.request_id = _request_id(mail)
    if lasts:
        peer.expires = loop.shared.now + lasts
    # Spread over half the interval, so that those who came together are not told together for ever.
    _look_again(loop, peer,
                loop.shared.now + <uint32_t>((first // 2 + _random(loop) % (first // 2 + 1)) // TICK_MS))
    if loop.draining:
        _say_bye(loop, peer, END_DRAINED)


# ---- fan-out ----

cdef void _flush(Loop *loop) noexcept nogil:
    cdef Topic *topic
    cdef Peer *peer
    cdef Peer *rest
    while loop.shared.dirty != NULL:
        topic = loop.shared.dirty
        loop.shared.dirty = topic.dirty_next
        topic_fan_out(&loop.shared, topic)
    rest = loop.shared.ready
    loop.shared.ready = NULL
    while rest != NULL:
        peer = rest
        rest = peer.work_next
        peer.flags &= ~PEER_READY
        if peer.flags & PEER_DEAD:
            peer.work_next = loop.shared.dead
            loop.shared.dead = peer
        else:
            peer_flush(&loop.shared, peer)
            if peer.flags == 0 and peer_is_complete(peer):
                _finish(loop, peer, END_COMPLETE)


cdef void _note_arrival(Loop *loop, uint64_t posted) noexcept nogil:
    if loop.arrived < ARRIVALS:
        loop.arrivals[loop.arrived] = posted
        loop.arrived += 1
    else:
        # Posted later than the last of those: its latency is told too high, never too low.
        loop.arrived_more += 1


cdef void _time_arrivals(Loop *loop) noexcept nogil:
    """The sockets have been given what arrived."""
    cdef uint64_t now = monotonic_us()
    cdef uint32_t i
    for i in range(loop.arrived):
        histogram_add(&loop.latency, now - loop.arrivals[i], 1)
    if loop.arrived_more:
        histogram_add(&loop.latency, now - loop.arrivals[ARRIVALS - 1], loop.arrived_more)
    loop.arrived = 0
    loop.arrived_more = 0


# ---- timers ----

cdef void _run_timers(Loop *loop) noexcept nogil:
    cdef uint32_t keepalive = loop.options.keepalive_ms // TICK_MS
    cdef uint32_t send_timeout = loop.options.send_timeout_ms // TICK_MS
    cdef uint32_t now = loop.shared.now
    cdef Peer *peer
    cdef int _
    loop.timers_left = True
    for _ in range(TIMERS):
        peer = wheel_due(&loop.wheel, now)
        if peer == NULL:
            loop.timers_left = False
            return
        if peer.flags & PEER_DEAD:
            continue
        if peer.flags & PEER_CLOSING:
            peer_end(&loop.shared, peer, END_DRAINED)
        elif peer.expires and now >= peer.expires:
            # Back where every live peer is, until it is closed or reaped.
            wheel_add(&loop.wheel, peer, now)
            _say_bye(loop, peer, END_EXPIRED)
        elif peer.flags & PEER_BLOCKED:
            if now - peer.blocked_at >= send_timeout:
                peer_end(&loop.shared, peer, END_TIMEOUT)
            else:
                _look_again(loop, peer, peer.blocked_at + send_timeout)
        else:
            if now - peer.sent_at >= keepalive:
                _keep_alive(loop, peer)
            # It may be blocked the next moment, so it is looked at again within both times.
            _look_again(loop, peer, min(peer.sent_at + keepalive, now + send_timeout))


cdef void _look_again(Loop *loop, Peer *peer, uint32_t tick) noexcept nogil:
    """Put a peer into the wheel for that tick, or for the one at which it expires if that comes before."""
    wheel_add(&loop.wheel, peer, min(tick, peer.expires) if peer.expires else tick)


cdef void _keep_alive(Loop *loop, Peer *peer) noexcept nogil:
    """Tell a silent client the horizon, so that its cursor does not age while its topics are quiet."""
    cdef char block[BLOCK_MAX]
    if not peer_is_caught_up(peer):
        # It has bytes coming in the next turn.
        peer_make_ready(&loop.shared, peer)
        return
    # A stream that ends is resumed by the ids of its own events alone: they say which one it was.
    if peer_carry(&loop.shared, peer, block,
                  block_comment(block) if peer.finite else block_id(block, loop.shared.horizon)) == 0:
        cell_add(&loop.shared.counts[COUNT_KEEPALIVES], 1)
        peer_flush(&loop.shared, peer)


# ---- eviction ----

cdef void _evict_by_age(Loop *loop) noexcept nogil:
    cdef timespec now
    cdef uint64_t now_ms
    cdef Topic *topic
    cdef uint32_t number
    cdef uint64_t lag = 0
    loop.aged_ms = loop.now_ms
    clock_gettime(CLOCK_REALTIME, &now)
    now_ms = <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000
    for number in range(loop.topics_end):
        topic = loop.topics[number]
        if topic != NULL and loop.shared.counts[COUNT_BLOCKED_NOW]:
            lag = max(lag, topic_lag(topic))
        # An event's age is in its id.
        if topic != NULL and topic.age and topic.log.first < topic.log.next and now_ms > topic.age:
            topic_evict(&loop.shared, topic, log_seek(&topic.log, (now_ms - topic.age) << SEQUENCE_BITS),
                        COUNT_EVICTED_BY_AGE)
    cell_set(&loop.shared.counts[COUNT_LAG_BYTES], lag)


cdef void _evict_by_total(Loop *loop) noexcept nogil:
    """Take from the largest log, a quarter at a time, until all logs together are within their bound."""
    cdef Topic *largest
    cdef uint64_t before
    cdef uint32_t number
    while loop.shared.counts[COUNT_HISTORY_BYTES] > loop.options.history_bytes:
        largest = NULL
        for number in range(loop.topics_end):
            if loop.topics[number] != NULL and (largest == NULL
                                                or log_bytes(&loop.topics[number].log) > log_bytes(&largest.log)):
                largest = loop.topics[number]
        before = loop.shared.counts[COUNT_HISTORY_BYTES]
        topic_evict(&loop.shared, largest, log_at(&largest.log, largest.log.head + log_bytes(&largest.log) // 4) + 1,
                    COUNT_EVICTED_BY_TOTAL)
        if loop.shared.counts[COUNT_HISTORY_BYTES] == before:
            # A healthy subscriber still has to send it: next turn.
            return


# ---- ends ----

cdef void _begin_drain(Loop *loop, uint64_t milliseconds, uint64_t spare) noexcept nogil:
    loop.draining = True
    loop.drain_from_ms = loop.now_ms
    loop.drain_ms = milliseconds
    loop.spare_ms = spare
    loop.drain_total = loop.shared.counts[COUNT_STREAMS]
    loop.drain_done = 0
    loop.drain_slot = 0


cdef void _drain(Loop *loop) noexcept nogil:
    """Close as many streams as the pace allows by now, each with a reconnection time of its own."""
    cdef uint64_t elapsed = loop.now_ms - loop.drain_from_ms
    cdef uint64_t target = loop.drain_total
    # What these wait for is under way in this process: it ends with all of it, unless that takes too long.
    cdef bint spares = elapsed < loop.spare_ms
    cdef Peer *peer
    if elapsed < loop.drain_ms:
        target = loop.drain_total * elapsed // loop.drain_ms
    else:
        # The time is over: all that are left, wherever their timers have moved them meanwhile.
        loop.drain_slot = 0
    while loop.drain_done < target or elapsed >= loop.drain_ms:
        if loop.drain_slot == SLOTS:
            loop.drain_slot = 0
            return
        peer = loop.wheel.slots[loop.drain_slot]
        while peer != NULL and (peer.flags & (PEER_CLOSING | PEER_DEAD) or (spares and peer.finite)):
            peer = peer.timer_next
        if peer == NULL:
            loop.drain_slot += 1
            continue
        _say_bye(loop, peer, END_DRAINED)
        loop.drain_done += 1


cdef void _evict_streams(Loop *loop, Mail *mail) noexcept nogil:
    """End the streams of a topic, or those with the tags of the mail. Seldom: all peers are looked at, once."""
    cdef uint64_t *tags = <uint64_t *>(mail + 1)
    cdef Topic *topic = loop.topics[mail.topic] if mail.flags & EVICT_TOPIC else NULL
    cdef Peer *peer
    cdef Peer *rest
    cdef int slot
    for slot in range(SLOTS):
        rest = loop.wheel.slots[slot]
        while rest != NULL:
            peer = rest
            # First: a peer that is told to go changes its slot, where it is passed over.
            rest = peer.timer_next
            if peer.flags & (PEER_CLOSING | PEER_DEAD):
                continue
            if _has_topic(peer, topic) if topic != NULL else _has_tag(peer, tags, mail.body // sizeof(uint64_t)):
                _say_bye(loop, peer, END_REVOKED)


cdef bint _has_topic(const Peer *peer, const Topic *topic) noexcept nogil:
    cdef uint32_t i
    for i in range(peer.topics):
        if peer.cursors[i].topic == topic:
            return True
    return False


cdef bint _has_tag(const Peer *peer, const uint64_t *tags, size_t count) noexcept nogil:
    cdef size_t low = 0
    cdef size_t middle
    while low < count:
        middle = (low + count) // 2
        if tags[middle] == peer.tag:
            return True
        if tags[middle] < peer.tag:
            low = middle + 1
        else:
            count = middle
    return False


cdef void _say_bye(Loop *loop, Peer *peer, uint8_t reason) noexcept nogil:
    """Tell a client when to come back, end our side, and leave it a moment to end its own.

    Closing at once would make the kernel answer unread input with RST, which cuts off the last bytes at the client.
    """
    cdef uint64_t least = loop.options.retry_least_ms
    cdef uint64_t retry = least + _random(loop) % (loop.options.retry_most_ms - least + 1)
    cdef char block[BLOCK_MAX]
    if reason != END_DRAINED:
        # What is due is not his any more, or not before he has come back.
        peer_leave(peer)
    if peer.flags & PEER_BLOCKED or peer_carry(&loop.shared, peer, block, block_retry(block, retry)) < 0:
        peer_end(&loop.shared, peer, reason)
        return
    peer_flush(&loop.shared, peer)
    if peer.flags & PEER_BLOCKED:
        peer_end(&loop.shared, peer, reason)
    if not peer.flags & PEER_DEAD:
        _finish(loop, peer, reason)


cdef void _finish(Loop *loop, Peer *peer, uint8_t reason) noexcept nogil:
    """End our side of a stream that has been sent everything."""
    peer.flags |= PEER_CLOSING
    peer.reason = reason
    peer_leave(peer)
    shutdown(peer.fd, SHUT_WR)
    wheel_remove(peer)
    wheel_add(&loop.wheel, peer, loop.shared.now + LINGER_MS // TICK_MS)


cdef void _end_all(Loop *loop) noexcept nogil:
    cdef Peer *peer
    cdef int slot
    for slot in range(SLOTS):
        peer = loop.wheel.slots[slot]
        while peer != NULL:
            peer_end(&loop.shared, peer, END_CLOSED)
            peer = peer.timer_next
    # Those that were ready as well go over to the dead list.
    _flush(loop)


cdef void _reap(Loop *loop) noexcept nogil:
    cdef Peer *peer
    while loop.shared.dead != NULL:
        peer = loop.shared.dead
        loop.shared.dead = peer.work_next
        wheel_remove(peer)
        peer_leave(peer)
        # What is unread at close() becomes an RST.
        _discard_input(loop, peer)
        cell_add(&loop.shared.counts[COUNT_ENDED + peer.reason], 1)
        # First: who sees one stream less must find its place free.
        cell_add(&loop.gone, 1)
        cell_add(&loop.shared.counts[COUNT_STREAMS], -<uint64_t>1)
        _report(loop, Report(
            tag=peer.tag, reason=peer.reason, request_id=peer.request_id, events=peer.events, bytes=peer.bytes,
            duration=<uint64_t>(loop.shared.now - peer.opened_at) * TICK_MS,
        ))
        peer.request_id = NULL
        peer_free(&loop.shared, peer)


cdef void _report(Loop *loop, Report report) noexcept nogil:
    """Note the end of a stream for those in Python who ask."""
    if not reports_add(&loop.reports, &report):
        cell_add(&loop.shared.counts[COUNT_UNREPORTED], 1)


cdef char *_request_id(const Mail *mail) noexcept nogil:
    """A copy of what stands behind the topics of MAIL_ADOPT."""
    cdef uint32_t before = (1 + mail.topic) * <uint32_t>sizeof(uint32_t)
    return copy_request_id(<const char *>(mail + 1) + before, mail.body - before)
