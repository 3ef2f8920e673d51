# A timer wheel: every peer is in exactly one slot, by the tick at which it wants to be looked at.
from libc.stdint cimport uint32_t

from sse_core.fanout.peer cimport Peer

cdef enum:
    TICK_MS = 64        # about the precision of all timeouts
    SLOTS = 512         # one turn of the wheel is 32.8 s; later deadlines wait for a later turn

cdef struct Wheel:
    Peer *slots[SLOTS]
    uint32_t at         # all ticks up to this one have been looked at

cdef void wheel_add(Wheel *wheel, Peer *peer, uint32_t deadline) noexcept nogil
cdef void wheel_remove(Peer *peer) noexcept nogil
cdef Peer *wheel_due(Wheel *wheel, uint32_t now) noexcept nogil
cdef uint32_t wheel_wait(const Wheel *wheel, uint32_t most) noexcept nogil
