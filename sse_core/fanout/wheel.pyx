"""A timer wheel: every peer is in exactly one slot, by the tick at which it wants to be looked at.

Sending to a peer does not touch the wheel: the peer notes when it was sent to, and is put off when its slot comes round.
"""


cdef void wheel_add(Wheel *wheel, Peer *peer, uint32_t deadline) noexcept nogil:
    """Put a peer, which is in no slot, where `wheel_due` returns it once `deadline` is reached."""
    cdef Peer **slot
    if deadline <= wheel.at:
        deadline = wheel.at + 1
    slot = &wheel.slots[deadline % SLOTS]
    peer.deadline = deadline
    peer.timer_next = slot[0]
    peer.timer_link = slot
    if slot[0] != NULL:
        slot[0].timer_link = &peer.timer_next
    slot[0] = peer


cdef void wheel_remove(Peer *peer) noexcept nogil:
    if peer.timer_link == NULL:
        return
    peer.timer_link[0] = peer.timer_next
    if peer.timer_next != NULL:
        peer.timer_next.timer_link = peer.timer_link
    peer.timer_link = NULL
    peer.timer_next = NULL


cdef Peer *wheel_due(Wheel *wheel, uint32_t now) noexcept nogil:
    """Take one peer whose deadline is reached out of the wheel; NULL once there is none up to `now`."""
    cdef Peer *peer
    while wheel.at < now:
        peer = wheel.slots[(wheel.at + 1) % SLOTS]
        while peer != NULL:
            # Others in this slot wait for a later turn of the wheel.
            if peer.deadline <= now:
                wheel_remove(peer)
                return peer
            peer = peer.timer_next
        wheel.at += 1
    return NULL


cdef uint32_t wheel_wait(const Wheel *wheel, uint32_t most) noexcept nogil:
    """Ticks from `at` until a slot that is not empty, at most `most`."""
    cdef uint32_t ticks
    for ticks in range(1, min(most, <uint32_t>SLOTS)):
        if wheel.slots[(wheel.at + ticks) % SLOTS] != NULL:
            return ticks
    return most
