"""The only door into a loop: many threads post, the loop's own thread takes.

Rules:

1. Posting is a copy under a mutex that is held for the copy alone: a publisher never waits for a subscriber.
2. An append goes to all loops or to none. So the engine locks all mailboxes, asks each for room, and then fills them.
3. The loop goes to sleep under the same mutex, after it has seen the box empty; no wake-up can fall between.
4. A descriptor inside a mail belongs to the mail. Whoever takes the mail owns it from then on.
"""

from libc.errno cimport ENOMEM, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close, write

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    int EFD_NONBLOCK
    int EFD_CLOEXEC

cdef enum:
    FIRST_BOX = 4096
    # A box that grew beyond this in a burst is given back once it has been read.
    KEPT_BOX = 1 << 20


cdef int mailbox_init(Mailbox *mailbox, size_t limit) noexcept nogil:
    memset(mailbox, 0, sizeof(Mailbox))
    mailbox.limit = limit
    mailbox.eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    if mailbox.eventfd < 0:
        return -errno
    pthread_mutex_init(&mailbox.lock, NULL)
    return 0


cdef void mailbox_free(Mailbox *mailbox) noexcept nogil:
    """Free the memory and the eventfd. Descriptors in mail that nobody took are closed."""
    cdef size_t at = 0
    cdef Mail *mail
    while at < mailbox.fill:
        mail = <Mail *>(mailbox.box + at)
        if mail.kind == MAIL_ADOPT:
            close(mail.fd)
        at += mail.size
    close(mailbox.eventfd)
    pthread_mutex_destroy(&mailbox.lock)
    free(mailbox.box)
    free(mailbox.taken)
    mailbox.box = NULL
    mailbox.taken = NULL
    mailbox.fill = 0


cdef bint mailbox_has_room(const Mailbox *mailbox, size_t size) noexcept nogil:
    """Whether `size` bytes of appends may wait here besides what waits already. Call it under the lock."""
    return mailbox.fill + size <= mailbox.limit


cdef int mailbox_reserve(Mailbox *mailbox, size_t size) noexcept nogil:
    """Make room in memory for `size` more bytes, so that `mailbox_put` cannot fail. Call it under the lock."""
    cdef size_t capacity = mailbox.capacity if mailbox.capacity else FIRST_BOX
    cdef char *box
    if mailbox.fill + size <= mailbox.capacity:
        return 0
    while mailbox.fill + size > capacity:
        capacity *= 2
    box = <char *>realloc(mailbox.box, capacity)
    if box == NULL:
        return -ENOMEM
    mailbox.box = box
    mailbox.capacity = capacity
    return 0


cdef void mailbox_put(Mailbox *mailbox, Mail *mail, const void *body) noexcept nogil:
    """Copy one record in; room has been reserved. Call it under the lock."""
    cdef char *place = mailbox.box + mailbox.fill
    mail.size = <uint32_t>mail_size(mail.body)
    memcpy(place, mail, sizeof(Mail))
    if mail.body:
        # Undefined for a null pointer, even with nothing to copy.
        memcpy(place + sizeof(Mail), body, mail.body)
    mailbox.fill += mail.size
    mailbox.posted += mail.size


cdef void mailbox_wake(Mailbox *mailbox) noexcept nogil:
    """Signal the loop if it sleeps and has not been signalled. Call it under the lock."""
    cdef uint64_t one = 1
    if mailbox.asleep:
        mailbox.asleep = False
        # It fails only when the counter is full, and then the loop is signalled anyway.
        write(mailbox.eventfd, &one, sizeof(one))


cdef int mailbox_post(Mailbox *mailbox, Mail *mail, const void *body) noexcept nogil:
    """Post one control record and wake the loop. Return 0, or -ENOMEM with nothing posted."""
    cdef int result
    pthread_mutex_lock(&mailbox.lock)
    result = mailbox_reserve(mailbox, mail_size(mail.body))
    if result == 0:
        mailbox_put(mailbox, mail, body)
        mailbox_wake(mailbox)
    pthread_mutex_unlock(&mailbox.lock)
    return result


cdef size_t mailbox_take(Mailbox *mailbox) noexcept nogil:
    """Swap the boxes: all that waits is now at `taken`, the loop's own until the next call. Return its bytes."""
    cdef size_t fill
    cdef char *box
    cdef size_t capacity
    if mailbox.taken_capacity > KEPT_BOX:
        free(mailbox.taken)
        mailbox.taken = NULL
        mailbox.taken_capacity = 0
    pthread_mutex_lock(&mailbox.lock)
    mailbox.asleep = False
    fill = mailbox.fill
    if fill:
        box = mailbox.box
        capacity = mailbox.capacity
        mailbox.box = mailbox.taken
        mailbox.capacity = mailbox.taken_capacity
        mailbox.fill = 0
        mailbox.taken = box
        mailbox.taken_capacity = capacity
    pthread_mutex_unlock(&mailbox.lock)
    return fill


cdef bint mailbox_doze(Mailbox *mailbox) noexcept nogil:
    """Say that the loop is about to wait. False if mail came meanwhile, and then it must not."""
    cdef bint empty
    pthread_mutex_lock(&mailbox.lock)
    empty = mailbox.fill == 0
    mailbox.asleep = empty
    pthread_mutex_unlock(&mailbox.lock)
    return empty
