"""The door of the engine: append, adopt, drain, stop, and counters. N loops, each with a thread and logs of its own.

Python calls these methods with the GIL held; none of them waits for a loop, but `stop`, which joins the threads and
releases the GIL for it.
"""

import os

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from libc.stdint cimport uint32_t, uint64_t
from posix.signal cimport sigset_t

from sse_core.fanout.cell cimport cell_get, slot_get
from sse_core.fanout.loop cimport Loop, LoopOptions, loop_free, loop_init, loop_run
from sse_core.fanout.mailbox cimport (
    APPEND_HISTORY, EVICT_TOPIC, MAIL_ADOPT, MAIL_ADVANCE, MAIL_APPEND, MAIL_CLOSE, MAIL_DRAIN, MAIL_END, MAIL_EVICT,
    MAIL_FORGET, MAIL_MEASURE, MAIL_OPEN, MAIL_RESTART, MAIL_STOP, Mail, mail_size, mailbox_has_room, mailbox_post,
    mailbox_put, mailbox_reserve, mailbox_wake, pthread_mutex_lock, pthread_mutex_unlock,
)
from sse_core.fanout.peer cimport (
    ADOPT_FRESH, ADOPT_UNKNOWN, COUNT_LAG_BYTES, COUNT_STREAMS, COUNTERS as COUNTER_CELLS, GAP_OVERFLOW, GAP_RESTART,
    GAP_TRIMMED, Topic, peer_size,
)
from sse_core.fanout.report cimport Report, reports_free
from sse_core.fanout.timing cimport BOUNDS, Histogram, histogram_bound, monotonic_us
from sse_core.fanout.topic cimport TopicLimits
from sse_core.fanout.wheel cimport TICK_MS

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t *thread, void *attributes, void *(*run)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from "<signal.h>" nogil:
    int sigfillset(sigset_t *signals)
    int pthread_sigmask(int how, const sigset_t *signals, sigset_t *before)
    int SIG_SETMASK

cdef enum:
    # Mail for a topic without subscribers does not wake a sleeping loop until so much of it waits.
    LAZY_BYTES = 1 << 18
    MOST_TOPICS = 1024      # of one stream; what _adopt in loop.pyx has place for
    MOST_TICKS = 0x7FFFFFFF
    MOST_REQUEST_ID = 64    # bytes
    REQUEST_ID_PLACES = 16  # of topic numbers, which it takes

END_REASON_NAMES = ("client", "lagging", "timeout", "error", "drained", "closed", "complete", "expired", "revoked")

# In the order of the enum Counter in peer.pxd.
# "events_published" is the engine's own: what was given to it, whereas each loop counts its copies.
_CELLS = (
    "streams", "streams_adopted", "streams_refused",
    *(f"streams_ended_{reason}" for reason in END_REASON_NAMES),
    "events_appended", "bytes_appended", "events_delivered", "bytes_sent", "sends", "blocked", "rationed", "keepalives",
    "gaps_trimmed", "gaps_restart", "gaps_unknown_id", "gaps_overflow", "events_skipped", "events_collapsed",
    "events_replayed",
    "events_evicted_by_bound", "events_evicted_by_age", "events_evicted_by_total", "events_lost",
    "input_bytes_discarded", "ends_unreported", "history_events", "history_bytes", "carried_bytes", "topics",
    "streams_blocked", "lag_bytes", "io_uring_loops",
)
COUNTERS = ("events_published", *_CELLS, "mailbox_bytes")
_GAUGES = frozenset({
    "streams", "history_events", "history_bytes", "carried_bytes", "topics", "streams_blocked", "lag_bytes", "mailbox_bytes",
    "io_uring_loops",
})
assert len(_CELLS) == COUNTER_CELLS

_POLICIES = {"disconnect": 0, "skip": 1, "latest": 2}
_REASONS = {"trimmed": GAP_TRIMMED, "restart": GAP_RESTART, "overflow": GAP_OVERFLOW}

STREAM_BYTES = peer_size()
MAX_STREAM_TOPICS = MOST_TOPICS
MAX_REQUEST_ID_BYTES = MOST_REQUEST_ID


def is_gauge(name: str) -> bool:
    """Whether a counter of this name can fall."""
    return name in _GAUGES


cdef class Engine:
    """N loops behind one door. Appends must come from one thread at a time (the hub's lock); the rest is thread-safe.

    ``loops`` threads start at once and live until `stop`. Times are in milliseconds, sizes in bytes, ids are numbers
    (see `sse_core.ids`); ``born`` is the id after which the feed begins and must not be 0. Topics with ``ring_from``
    subscribers and more are sent to by io_uring, where Linux lets this process use it (0: never). Raises `OSError` where
    the system gives no descriptor or thread.
    """

    cdef Loop *loops
    cdef pthread_t *threads
    cdef int count
    cdef int running
    cdef int turn
    cdef bint stopped
    cdef uint64_t published
    cdef uint64_t given
    cdef object gap_event
    cdef object pid

    def __cinit__(self, *, int loops, uint64_t born, uint32_t max_topics, uint32_t keepalive_ms,
                  uint32_t send_timeout_ms, tuple drain_retry, uint64_t mailbox_bytes, uint64_t history_bytes,
                  uint64_t ration, bytes gap_event, uint32_t ring_from=4):
        cdef LoopOptions options
        cdef int result
        if loops < 1 or born == 0:
            raise ValueError("an engine needs a loop and an id to begin after")
        memset(&options, 0, sizeof(options))
        options.born = born
        options.max_topics = max_topics
        options.keepalive_ms = keepalive_ms
        options.send_timeout_ms = send_timeout_ms
        options.retry_least_ms, options.retry_most_ms = drain_retry
        options.mailbox_bytes = mailbox_bytes
        options.history_bytes = history_bytes
        options.ration = ration
        options.ring_from = ring_from
        # The loops point into it, so the engine keeps it alive.
        self.gap_event = gap_event
        options.gap_event = gap_event
        options.gap_event_size = len(gap_event)
        self.pid = os.getpid()
        self.loops = <Loop *>calloc(loops, sizeof(Loop))
        self.threads = <pthread_t *>calloc(loops, sizeof(pthread_t))
        if self.loops == NULL or self.threads == NULL:
            raise MemoryError
        for _ in range(loops):
            result = loop_init(&self.loops[self.count], &options)
            if result < 0:
                raise OSError(-result, os.strerror(-result))
            self.count += 1
        self._start()

    def _start(self):
        cdef sigset_t every, before
        cdef int result = 0
        # A thread inherits the mask. A signal that the kernel gave to a loop would be seen late by Python's main thread.
        sigfillset(&every)
        pthread_sigmask(SIG_SETMASK, &every, &before)
        while self.running < self.count and result == 0:
            result = pthread_create(&self.threads[self.running], NULL, loop_run, &self.loops[self.running])
            self.running += result == 0
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        if result:
            raise OSError(result, os.strerror(result))

    def __dealloc__(self):
        cdef int i
        if self.loops == NULL:
            return
        self.stop()
        for i in range(self.count):
            reports_free(&self.loops[i].reports)
        free(self.loops)
        free(self.threads)

    # ---- mail ----

    def append(self, uint32_t topic, uint64_t ident, bytes frame) -> bool:
        """Append one framed event to all loops, or to none: False if a mailbox has no room."""
        cdef Mail mail
        cdef size_t size = mail_size(len(frame))
        cdef bint done
        self._check_running()
        done = self._lock_with_room(size, False)
        mail.flags = 0
        mail.tag = monotonic_us()
        if done:
            self._put(&mail, topic, ident, frame)
        self._unlock()
        return done

    def append_many(self, items: list, bint history=False, bint alone=False) -> bool:
        """Append `(topic, id, frame)` items, in the order of their ids, to all loops, or none of them to any.

        ``history``: they belong to topics that were just opened, and lie below the horizon, which they do not move.
        ``alone``: an empty mailbox takes them, however large they are together.
        """
        cdef Mail mail
        cdef size_t size = 0
        cdef bint done
        self._check_running()
        mail.flags = APPEND_HISTORY if history else 0
        mail.tag = monotonic_us()
        for _, _, frame in items:
            size += mail_size(len(<bytes?>frame))
        done = self._lock_with_room(size, alone)
        try:
            if done:
                for topic, ident, frame in items:
                    self._put(&mail, topic, ident, frame)
        finally:
            self._unlock()
        return done

    cdef int _check_running(self) except -1:
        if self.running == 0:
            raise RuntimeError("the engine was stopped")
        return 0

    cdef bint _lock_with_room(self, size_t size, bint alone):
        cdef bint room = True
        cdef int i
        for i in range(self.count):
            pthread_mutex_lock(&self.loops[i].mailbox.lock)
            room = room and (mailbox_has_room(&self.loops[i].mailbox, size) or (alone and self.loops[i].mailbox.fill == 0))
        for i in range(self.count):
            room = room and mailbox_reserve(&self.loops[i].mailbox, size) == 0
        return room

    cdef void _put(self, Mail *mail, uint32_t topic, uint64_t ident, bytes frame):
        cdef Loop *loop
        cdef Topic *subscribed
        cdef int i
        mail.body = <uint32_t>len(frame)
        mail.kind = MAIL_APPEND
        mail.topic = topic
        mail.id = ident
        self.published += 1
        for i in range(self.count):
            loop = &self.loops[i]
            mailbox_put(&loop.mailbox, mail, <const char *>frame)
            loop.used[topic] = loop.mailbox.posted
            # Read under the lock: a loop that adopts after this has still to look into its mailbox before it sleeps.
            subscribed = <Topic *>slot_get(<void **>&loop.topics[topic])
            if (subscribed != NULL and cell_get(&subscribed.count)) or loop.mailbox.fill > LAZY_BYTES:
                mailbox_wake(&loop.mailbox)

    cdef void _unlock(self):
        cdef int i
        for i in range(self.count):
            pthread_mutex_unlock(&self.loops[i].mailbox.lock)

    cdef int _post(self, int i, Mail *mail, const void *body) except -1:
        self._check_running()
        if mailbox_post(&self.loops[i].mailbox, mail, body) < 0:
            raise MemoryError
        return 0

    def open_topic(self, uint32_t number, bytes name_json, *, str policy, uint64_t max_events, uint64_t max_bytes,
                   uint64_t age_ms, uint64_t lag, uint64_t floor, bint finite=False) -> None:
        """Make topic `number` known to all loops, with its bounds. `floor` is the id after which its feed is complete.

        ``finite``: it will have an end, see `end_topic`.
        """
        cdef Mail mail
        cdef TopicLimits limits
        cdef bytes body
        cdef int i
        limits.max_events = max_events
        limits.max_bytes = max_bytes
        limits.age = age_ms
        limits.lag = lag
        limits.floor = floor
        limits.policy = _POLICIES[policy]
        limits.finite = finite
        limits.name_size = len(name_json)
        body = (<char *>&limits)[:sizeof(limits)] + name_json
        mail.kind = MAIL_OPEN
        mail.topic = number
        mail.body = len(body)
        for i in range(self.count):
            self._post(i, &mail, <const char *>body)
            self.loops[i].used[number] = self.loops[i].mailbox.posted

    def close_topic(self, uint32_t number) -> None:
        """Free a topic without streams (see `topic_state`), for which nothing was posted since, and its history."""
        cdef Mail mail
        cdef int i
        mail.kind = MAIL_CLOSE
        mail.topic = number
        mail.body = 0
        for i in range(self.count):
            self._post(i, &mail, NULL)

    def end_topic(self, uint32_t number) -> None:
        """What was appended to topic `number` last is the last of it: streams that end with it are closed behind it."""
        self._tell(MAIL_END, number)

    def measure(self, uint32_t number) -> None:
        """Find out how far the streams of a topic are; `sent` tells it, once the topic is settled (`topic_state`)."""
        self._tell(MAIL_MEASURE, number)

    def sent(self, uint32_t number) -> int | None:
        """The id up to which all streams of a topic had been sent at the last `measure`; None if there were none."""
        cdef uint64_t least = <uint64_t>-1
        cdef Topic *topic
        cdef int i
        self._check_running()
        for i in range(self.count):
            topic = <Topic *>slot_get(<void **>&self.loops[i].topics[number])
            if topic != NULL:
                least = min(least, cell_get(&topic.sent))
        return None if least == <uint64_t>-1 else least

    cdef int _tell(self, uint32_t kind, uint32_t number) except -1:
        cdef Mail mail
        cdef int i
        mail.kind = kind
        mail.topic = number
        mail.body = 0
        for i in range(self.count):
            self._post(i, &mail, NULL)
            self.loops[i].used[number] = self.loops[i].mailbox.posted
        return 0

    def adopt(self, int fd, uint64_t tag, topics, uint64_t after, bint fresh=False, bint unknown=False,
              uint64_t lasts_ms=0, bytes request_id=b"") -> None:
        """Give the descriptor `fd` to a loop, which owns it from then on: it sends what comes after id `after`.

        ``fresh``: no id was asked for, `after` is the horizon that the client was told. ``unknown``: what was asked for is
        no id of ours (`after` is 0, or an id of another feed). ``lasts_ms``: the stream ends after so long, softly; 0: it has
        no such end. ``request_id`` is told again when the stream ends; it has no NUL and is kept outside Python. `fd` must
        be a non-blocking stream socket. On an exception it is still the caller's.
        """
        cdef Mail mail
        cdef uint32_t body[1 + MOST_TOPICS + REQUEST_ID_PLACES]
        cdef uint32_t *numbers = body + 1
        cdef int count = len(topics)
        cdef int i, k
        if not 1 <= count <= MOST_TOPICS:
            raise ValueError(f"a stream has 1 to {MOST_TOPICS} topics")
        if len(request_id) > MOST_REQUEST_ID:
            raise ValueError(f"a request id has at most {MOST_REQUEST_ID} bytes")
        for i in range(count):
            numbers[i] = topics[i]
        memcpy(&numbers[count], <const char *>request_id, len(request_id))
        mail.kind = MAIL_ADOPT
        mail.topic = count
        mail.id = after
        mail.tag = tag
        mail.fd = fd
        mail.flags = (ADOPT_FRESH if fresh else 0) | (ADOPT_UNKNOWN if unknown else 0)
        mail.body = (count + 1) * sizeof(uint32_t) + len(request_id)
        # Never before its time; what no counter of ticks could hold, years, is none of it.
        body[0] = 0 if lasts_ms == 0 else <uint32_t>min(lasts_ms // TICK_MS + 1, <uint64_t>MOST_TICKS)
        # In turn: streams end at random, so the loops stay about even.
        i = self.turn
        self.turn = (i + 1) % self.count
        self._post(i, &mail, body)
        self.given += 1
        pthread_mutex_lock(&self.loops[i].mailbox.lock)
        for k in range(count):
            self.loops[i].used[numbers[k]] = self.loops[i].mailbox.posted
        pthread_mutex_unlock(&self.loops[i].mailbox.lock)

    def evict(self, tags) -> None:
        """End the streams that were adopted with these tags, softly: each is told when to come back."""
        cdef Mail mail
        cdef list named = sorted(tags)
        cdef bytes body = bytes(len(named) * sizeof(uint64_t))
        # Nobody else has the object yet.
        cdef uint64_t *numbers = <uint64_t *><char *>body
        cdef Py_ssize_t k
        cdef int i
        for k in range(len(named)):
            numbers[k] = named[k]
        mail.kind = MAIL_EVICT
        mail.flags = 0
        mail.topic = 0
        mail.body = <uint32_t>len(body)
        for i in range(self.count):
            self._post(i, &mail, <const char *>body)

    def evict_topic(self, uint32_t number) -> None:
        """End all streams of a topic, softly."""
        cdef Mail mail
        cdef int i
        mail.kind = MAIL_EVICT
        mail.flags = EVICT_TOPIC
        mail.topic = number
        mail.body = 0
        for i in range(self.count):
            self._post(i, &mail, NULL)
            self.loops[i].used[number] = self.loops[i].mailbox.posted

    def forget(self, uint32_t number, uint64_t floor, str reason) -> None:
        """Drop a topic's history: its feed is complete after id `floor`. All who listen are told a gap with that id.

        ``reason``: ``"trimmed"``, ``"restart"`` or ``"overflow"``.
        """
        cdef Mail mail
        cdef int i
        mail.kind = MAIL_FORGET
        mail.topic = number
        mail.id = floor
        mail.flags = _REASONS[reason]
        mail.body = 0
        for i in range(self.count):
            self._post(i, &mail, NULL)
            self.loops[i].used[number] = self.loops[i].mailbox.posted

    def advance(self, uint64_t horizon) -> None:
        """The feed is complete up to id `horizon`, though no event has it. Silent streams are told with their keepalive."""
        cdef Mail mail
        cdef int i
        self._check_running()
        mail.kind = MAIL_ADVANCE
        mail.id = horizon
        mail.body = 0
        for i in range(self.count):
            pthread_mutex_lock(&self.loops[i].mailbox.lock)
            # Nobody has to be woken for it, and without memory the next one will do.
            if mailbox_reserve(&self.loops[i].mailbox, mail_size(0)) == 0:
                mailbox_put(&self.loops[i].mailbox, &mail, NULL)
            pthread_mutex_unlock(&self.loops[i].mailbox.lock)

    def restart(self, uint64_t born, uint64_t horizon) -> None:
        """The feed begins anew after id `born`, and is complete up to `horizon`, which may be below the one before."""
        cdef Mail mail
        cdef int i
        mail.kind = MAIL_RESTART
        mail.id = born
        mail.tag = horizon
        mail.body = 0
        for i in range(self.count):
            self._post(i, &mail, NULL)

    def drain(self, uint64_t milliseconds, uint64_t spare=0) -> None:
        """Close all streams at an even pace within that time; what is adopted from now on is closed at once.

        Streams whose topics all have an end are left alone for ``spare`` milliseconds: they are given that time to end.
        """
        cdef Mail mail
        cdef int i
        mail.kind = MAIL_DRAIN
        mail.body = 0
        mail.id = milliseconds
        mail.tag = spare
        for i in range(self.count):
            self._post(i, &mail, NULL)

    def stop(self) -> None:
        """End all streams and the threads, wait for them, and free what they owned.

        Counters and ended streams can be read afterwards. Can be called twice.
        """
        cdef Mail mail
        cdef int running = self.running
        cdef int i
        mail.kind = MAIL_STOP
        mail.body = 0
        if self.stopped:
            return
        self.stopped = True
        if self.pid == os.getpid():
            for i in range(running):
                self._post(i, &mail, NULL)
            # From here on, and before the GIL is released, nobody can post.
            self.running = 0
            for i in range(running):
                _join(self.threads[i])
        # In a child of fork the threads do not exist, and only copies of their things are left.
        self.running = 0
        for i in range(self.count):
            loop_free(&self.loops[i])

    # ---- numbers ----

    def counters(self) -> dict[str, int]:
        """The sums over all loops, by name."""
        cdef dict result = {"events_published": self.published}
        cdef uint64_t total
        cdef int cell, i
        for cell in range(COUNTER_CELLS):
            total = 0
            for i in range(self.count):
                total += cell_get(&self.loops[i].shared.counts[cell])
            result[_CELLS[cell]] = total
        # Each loop has a copy of each topic.
        result["topics"] //= max(self.count, 1)
        result["lag_bytes"] = max([cell_get(&self.loops[i].shared.counts[COUNT_LAG_BYTES]) for i in range(self.count)])
        result["mailbox_bytes"] = 0 if self.stopped else sum([self._waiting(i) for i in range(self.count)])
        return result

    cdef uint64_t _waiting(self, int i):
        cdef uint64_t posted
        pthread_mutex_lock(&self.loops[i].mailbox.lock)
        posted = self.loops[i].mailbox.posted
        pthread_mutex_unlock(&self.loops[i].mailbox.lock)
        return posted - min(cell_get(&self.loops[i].read), posted)

    def histograms(self) -> dict[str, tuple[list[tuple[float, int]], int, float]]:
        """For each name: upper bounds in seconds with how much is at or below each, how much in all, and its sum in seconds.

        ``latency``: of each event with streams, from the mailbox until their sockets have been given it, as far as they take
        it. ``turns``: of each turn of a loop.
        """
        return {
            "latency": _sum([_read(&self.loops[i].latency) for i in range(self.count)]),
            "turns": _sum([_read(&self.loops[i].turns) for i in range(self.count)]),
        }

    def streams(self) -> int:
        """How many streams are open."""
        cdef uint64_t total = 0
        cdef int i
        for i in range(self.count):
            total += cell_get(&self.loops[i].shared.counts[COUNT_STREAMS])
        return total

    def places(self) -> int:
        """How many streams are open or on their way to a loop, which counts them once it has read its mail."""
        cdef uint64_t gone = 0
        cdef int i
        for i in range(self.count):
            gone += cell_get(&self.loops[i].gone)
        return self.given - gone

    def heartbeats(self) -> list[int]:
        """A number for each loop that grows at least once a second while the loop is well."""
        return [cell_get(&self.loops[i].heartbeat) for i in range(self.count)]

    def topic_state(self, uint32_t number) -> tuple[int, int, int, bool]:
        """Streams, events and bytes of history of a topic, and whether the loops have read all that was posted for it.

        Events and bytes are of one loop's copy. Call it where no append, adopt or close can come between (the hub's lock).
        """
        cdef Topic *topic
        cdef uint64_t streams = 0
        cdef uint64_t events = 0
        cdef uint64_t size = 0
        cdef bint settled = True
        cdef int i
        self._check_running()
        for i in range(self.count):
            # What the loop has not read yet may be an event or a stream for this topic.
            pthread_mutex_lock(&self.loops[i].mailbox.lock)
            settled = settled and self.loops[i].used[number] <= cell_get(&self.loops[i].read)
            topic = <Topic *>slot_get(<void **>&self.loops[i].topics[number])
            if topic != NULL:
                streams += cell_get(&topic.count)
                events = cell_get(&topic.log.next) - cell_get(&topic.log.first)
                size = cell_get(&topic.log.tail) - cell_get(&topic.log.head)
            pthread_mutex_unlock(&self.loops[i].mailbox.lock)
        return streams, events, size, settled

    def ended(self) -> list[tuple[int, str, float, int, int, str | None]]:
        """The streams that ended since the last call.

        Each with the tag it was adopted with, the reason, its duration in seconds, the events that it was delivered, the bytes
        that it was sent, and its request id. The first call begins it: before, nobody would miss a report.
        """
        cdef Loop *loop
        cdef Report *report
        cdef list result = []
        cdef int i
        cdef uint32_t k
        for i in range(self.count):
            loop = &self.loops[i]
            pthread_mutex_lock(&loop.reports.lock)
            for k in range(loop.reports.count):
                report = &loop.reports.items[k]
                name = None
                if report.request_id != NULL:
                    name = (<bytes>report.request_id).decode("latin-1")
                    free(report.request_id)
                result.append((
                    report.tag, END_REASON_NAMES[report.reason], report.duration / 1000.0, report.events, report.bytes, name,
                ))
            loop.reports.count = 0
            loop.reports.wanted = True
            pthread_mutex_unlock(&loop.reports.lock)
        return result


cdef list _read(const Histogram *histogram):
    """The counts of its buckets, and the sum behind them."""
    cdef int i
    # The sum last: it may then have a moment more than the counts, and a mean is never told as 0.
    return [*[cell_get(&histogram.counts[i]) for i in range(BOUNDS + 1)], cell_get(&histogram.total)]


cdef tuple _sum(list each):
    """What several loops have, as one."""
    cdef list totals = [sum(column) for column in zip(*each)]
    cdef list buckets = []
    cdef int i
    below = 0
    for i in range(BOUNDS):
        below += totals[i]
        buckets.append((histogram_bound(i) / 1e6, below))
    return buckets, below + totals[BOUNDS], totals[BOUNDS + 1] / 1e6


cdef void _join(pthread_t thread):
    with nogil:
        pthread_join(thread, NULL)
