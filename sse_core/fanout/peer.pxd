# One subscriber: a descriptor and cursors into logs. Nothing is queued, copied or allocated per subscriber and event.
#
#   Topic --cursors--> Cursor <--only/cursors-- Peer --fd--> socket
#     |                  | next: the entry to send next
#    Log <---------------+
#
# An idle peer of one topic is one struct, small enough for a 160-byte chunk of malloc; the test of its size says so.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from sse_core.fanout.log cimport Log
from sse_core.fanout.ring cimport Ring

cdef enum:  # Policy
    POLICY_DISCONNECT = 0
    POLICY_SKIP = 1
    POLICY_LATEST = 2

cdef enum:  # GapReason
    GAP_NONE = 0
    GAP_TRIMMED = 1
    GAP_RESTART = 2
    GAP_UNKNOWN_ID = 3
    GAP_OVERFLOW = 4

cdef enum:  # PeerFlag
    PEER_BLOCKED = 1    # the socket is full; epoll will say when it is not
    PEER_READY = 2      # on the ready list: will be flushed in this turn or the next
    PEER_DEAD = 4       # will be reaped at the end of the turn; touch it no more
    PEER_CLOSING = 8    # its last bytes are sent and SHUT_WR done; waits for the other end
    PEER_COLLAPSE = 16  # has been blocked: of topics with policy latest only the newest event is due

cdef enum:  # EndReason
    END_CLIENT = 0      # the other end closed
    END_LAGGING = 1     # policy disconnect
    END_TIMEOUT = 2     # blocked longer than send_timeout
    END_ERROR = 3       # the socket failed
    END_DRAINED = 4
    END_CLOSED = 5      # the hub was closed
    END_COMPLETE = 6    # all of its topics have ended, and it has got everything
    END_EXPIRED = 7     # the time for which it was let in is over
    END_REVOKED = 8     # it was let in, and is not any more
    END_REASONS = 9

cdef enum:  # AdoptFlag
    ADOPT_FRESH = 1     # no id was asked for: the cursor is the horizon at the time of the claim
    ADOPT_UNKNOWN = 2   # what was asked for is no id of ours; the cursor is 0, or another feed's id

cdef enum:  # Counter
    COUNT_STREAMS = 0   # gauge
    COUNT_ADOPTED
    COUNT_REFUSED
    COUNT_ENDED         # END_REASONS cells
    COUNT_APPENDED = COUNT_ENDED + END_REASONS
    COUNT_APPENDED_BYTES
    COUNT_DELIVERED
    COUNT_SENT_BYTES
    COUNT_SENDS
    COUNT_BLOCKED
    COUNT_RATIONED
    COUNT_KEEPALIVES
    COUNT_GAP_TRIMMED
    COUNT_GAP_RESTART
    COUNT_GAP_UNKNOWN_ID
    COUNT_GAP_OVERFLOW
    COUNT_SKIPPED
    COUNT_COLLAPSED
    COUNT_REPLAYED
    COUNT_EVICTED_BY_BOUND
    COUNT_EVICTED_BY_AGE
    COUNT_EVICTED_BY_TOTAL
    COUNT_LOST
    COUNT_DISCARDED_BYTES
    COUNT_UNREPORTED
    COUNT_HISTORY_EVENTS  # gauge
    COUNT_HISTORY_BYTES   # gauge
    COUNT_CARRIED_BYTES   # gauge
    COUNT_TOPICS          # gauge
    COUNT_BLOCKED_NOW     # gauge
    COUNT_LAG_BYTES       # gauge: of the blocked peer that is furthest behind
    COUNT_IO_URING        # gauge: 1 while fan-outs go through the ring
    COUNTERS

cdef struct Peer
cdef struct Topic

cdef struct Carry:      # followed by its bytes
    uint32_t size
    uint32_t sent

cdef struct Cursor:
    Peer *peer
    Topic *topic
    uint64_t next       # number of the entry to send next: always a whole frame
    uint64_t asked      # while a gap is due: the id that was asked for, or the last one delivered; 0 for none
    uint32_t place      # this cursor's place in topic.cursors
    uint8_t gap         # GapReason: a gap event is due before entry `next`

cdef struct Peer:
    Cursor only         # the cursor of a peer with one topic
    Cursor *cursors     # &only, or an array of its own
    Carry *carry        # goes out before anything else: the rest of a partly sent frame, a gap, the priming of `latest`
    Peer *timer_next
    Peer **timer_link   # what points at this peer in its slot of the wheel
    Peer *work_next     # on the ready list or on the dead list, never on both
    uint64_t tag        # the stream's number, for those who want to hear of its end
    char *request_id    # likewise, from malloc; NULL for none
    uint64_t bytes      # sent
    uint64_t events     # delivered
    int32_t fd
    uint32_t topics
    uint32_t deadline   # tick of the wheel
    uint32_t sent_at    # tick of the last successful send
    uint32_t blocked_at
    uint32_t expires    # tick at which it ends, 0 for never
    uint32_t opened_at  # tick
    uint8_t flags
    uint8_t reason
    uint8_t finite      # all of its topics end

cdef struct Topic:
    Log log
    Cursor **cursors
    uint64_t count      # a cell: how many cursors; read by publishers and by stats
    uint64_t capacity   # of `cursors`
    uint64_t fresh      # where a caught-up cursor stands: log.next as of the last fan-out
    uint64_t low        # no cursor that is behind stands below this
    uint64_t age        # milliseconds of history, 0 for no bound
    uint64_t lag        # bytes that a blocked subscriber may be behind
    Topic *dirty_next
    uint64_t end        # number after its last event, once that is here; 0 before
    uint64_t sent       # cell: the id up to which all of its streams have been sent, as of the last MAIL_MEASURE
    uint8_t policy
    uint8_t dirty
    uint8_t finite      # it has an end
    uint32_t number
    uint32_t name_size
    # followed by the name as a JSON string

cdef struct Shared:     # what the peers of one loop have in common
    uint64_t counts[COUNTERS]   # cells
    uint64_t horizon    # the feed is complete in this loop up to this id
    uint64_t born       # the feed began after this id
    Peer *ready
    Peer *dead
    Topic *dirty
    int epoll
    Ring ring
    uint32_t ring_from
    uint32_t now        # tick
    uint64_t ration     # bytes for one peer in one turn
    const char *gap_event
    size_t gap_event_size

cdef size_t peer_size() noexcept nogil
cdef Peer *peer_open(Shared *shared, int fd, uint64_t tag, Topic **topics, uint32_t count, uint64_t after,
                     uint32_t flags) noexcept nogil
cdef void peer_leave(Peer *peer) noexcept nogil
cdef void peer_free(Shared *shared, Peer *peer) noexcept nogil
cdef void peer_end(Shared *shared, Peer *peer, uint8_t reason) noexcept nogil
cdef void peer_make_ready(Shared *shared, Peer *peer) noexcept nogil
cdef void peer_unblock(Shared *shared, Peer *peer) noexcept nogil
cdef void peer_flush(Shared *shared, Peer *peer) noexcept nogil
cdef void peer_sent_short(Shared *shared, Peer *peer, uint64_t start, uint64_t stop, ssize_t sent) noexcept nogil
cdef bint peer_is_caught_up(const Peer *peer) noexcept nogil
cdef bint peer_is_complete(const Peer *peer) noexcept nogil
cdef int peer_carry(Shared *shared, Peer *peer, const void *data, size_t size) noexcept nogil
