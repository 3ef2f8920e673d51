# One loop: a thread, an epoll set, and everything that the thread owns alone.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from sse_core.fanout.mailbox cimport Mailbox
from sse_core.fanout.peer cimport Shared, Topic
from sse_core.fanout.report cimport Reports
from sse_core.fanout.timing cimport Histogram
from sse_core.fanout.wheel cimport Wheel

cdef enum:
    ARRIVALS = 1024         # events of one turn whose times are kept apart

cdef struct LoopOptions:
    uint64_t born           # id
    uint32_t max_topics
    uint32_t keepalive_ms
    uint32_t send_timeout_ms
    uint32_t retry_least_ms  # jittered reconnection times of a drain
    uint32_t retry_most_ms
    uint64_t mailbox_bytes
    uint64_t history_bytes  # of all logs of this loop
    uint64_t ration         # bytes for one peer in one turn
    uint32_t ring_from      # subscribers of a topic from which on the ring is used, where the system has one; 0: never
    const char *gap_event   # outlives the loop
    size_t gap_event_size

cdef struct Loop:
    Shared shared
    Mailbox mailbox
    Wheel wheel
    LoopOptions options
    Topic **topics          # by number; only the loop writes it
    uint32_t topics_end     # no topic has this number or a greater one
    uint64_t *used          # by topic: mailbox.posted after the last mail for it; under the mailbox's lock
    uint64_t read           # cell: bytes of mail ever read
    uint64_t heartbeat      # cell: turns made
    uint64_t gone           # cell: streams that have ended, and those that could not be adopted
    size_t mail_at          # how far the taken mail has been read
    size_t mail_size
    uint64_t fanned_out     # events appended by the last fan-out
    bint bursty             # that fan-out found several
    uint64_t started_ms     # monotonic
    uint64_t now_ms         # since then
    uint64_t aged_ms        # when old history was last dropped
    uint64_t random
    uint64_t drain_from_ms
    uint64_t drain_ms
    uint64_t spare_ms       # so long after the drain began streams that are about to end are let be
    uint64_t drain_total    # streams that were open when the drain began
    uint64_t drain_done
    uint32_t drain_slot
    bint draining
    bint stopping
    bint timers_left        # the bound on timers in one turn was reached
    Histogram turns         # how long turns took
    Histogram latency       # from the mailbox to the sockets
    uint64_t arrivals[ARRIVALS]  # when the events that are about to be fanned out were posted, in microseconds
    uint32_t arrived
    uint64_t arrived_more   # events beyond those, which count as the last of them
    Reports reports

cdef int loop_init(Loop *loop, const LoopOptions *options) noexcept nogil
cdef void loop_free(Loop *loop) noexcept nogil
cdef void *loop_run(void *loop) noexcept nogil
