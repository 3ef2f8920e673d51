# The only door into a loop: many threads post, the loop's own thread takes.
#
#   posters --lock--> [ mail | mail | mail ... ] --swap--> the loop reads the whole box without the lock
#
# A poster that finds the loop asleep signals the eventfd; one that finds it awake, or already signalled, does not.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef enum:  # MailKind
    MAIL_APPEND = 1     # body: the frame
    MAIL_OPEN = 2       # body: TopicLimits, then the name as a JSON string
    MAIL_CLOSE = 3
    MAIL_ADOPT = 4      # body (uint32_t): ticks that it may last, 0 for ever, then topic numbers
    MAIL_DRAIN = 5      # id: milliseconds that the drain may take, tag: how long it spares streams that are about to end
    MAIL_STOP = 6
    MAIL_ADVANCE = 7    # id: the horizon
    MAIL_FORGET = 8     # id: the floor, flags: GapReason
    MAIL_RESTART = 9    # id: where the feed begins, tag: the horizon
    MAIL_END = 10       # the topic's last event came before it
    MAIL_MEASURE = 11   # find out how far the topic's streams are
    MAIL_EVICT = 12     # end the streams of the topic, or those that the body names: their tags (uint64_t), sorted

cdef enum:  # MailFlag
    APPEND_HISTORY = 1  # of MAIL_APPEND: older than the horizon, which it does not move
    EVICT_TOPIC = 1     # of MAIL_EVICT

cdef struct Mail:
    uint32_t size       # of this record with its body and padding, a multiple of 8
    uint32_t body       # bytes of the body
    uint32_t kind
    uint32_t topic      # for MAIL_ADOPT: how many topics
    uint64_t id         # for MAIL_ADOPT: the cursor
    uint64_t tag        # MAIL_ADOPT: the stream's number
    int32_t fd          # MAIL_ADOPT: owned by the mail from post to take
    uint32_t flags

cdef struct Mailbox:
    pthread_mutex_t lock
    char *box           # what posters fill; owned under the lock
    size_t fill
    size_t capacity
    size_t limit        # bytes of appends that may wait; controls are bounded by streams and topics instead
    int eventfd
    uint64_t posted     # bytes of mail ever posted
    bint asleep         # the loop waits in epoll and nobody has signalled it yet
    char *taken         # what the loop reads; the loop's own
    size_t taken_capacity

cdef int mailbox_init(Mailbox *mailbox, size_t limit) noexcept nogil
cdef void mailbox_free(Mailbox *mailbox) noexcept nogil
cdef bint mailbox_has_room(const Mailbox *mailbox, size_t size) noexcept nogil
cdef int mailbox_reserve(Mailbox *mailbox, size_t size) noexcept nogil
cdef void mailbox_put(Mailbox *mailbox, Mail *mail, const void *body) noexcept nogil
cdef void mailbox_wake(Mailbox *mailbox) noexcept nogil
cdef int mailbox_post(Mailbox *mailbox, Mail *mail, const void *body) noexcept nogil
cdef size_t mailbox_take(Mailbox *mailbox) noexcept nogil
cdef bint mailbox_doze(Mailbox *mailbox) noexcept nogil


cdef inline size_t mail_size(size_t body) noexcept nogil:
    """Bytes that a record with a body of `body` bytes takes, padded so that the next one is aligned."""
    return (sizeof(Mail) + body + 7) & ~<size_t>7
