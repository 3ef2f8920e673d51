# Ids in native code: one 64-bit number, milliseconds << 20 | sequence. See ids.pyx.
from libc.stdint cimport uint64_t

cdef enum:
    SEQUENCE_BITS = 20
    # 14 digits of milliseconds (44 bits), a hyphen, 7 digits of sequence.
    ID_TEXT_MAX = 22


cdef inline int digits_write(char *out, uint64_t n) noexcept nogil:
    """Write `n` in decimal at `out`; return how many bytes that took (at most 20)."""
    cdef char turned[20]
    cdef int count = 0
    cdef int i
    while True:
        turned[count] = <char>(48 + n % 10)
        count += 1
        n //= 10
        if n == 0:
            break
    for i in range(count):
        out[i] = turned[count - 1 - i]
    return count


cdef inline int id_write(char *out, uint64_t ident) noexcept nogil:
    """Write `<milliseconds>-<sequence>` at `out`; return how many bytes that took (at most ID_TEXT_MAX)."""
    cdef int count = digits_write(out, ident >> SEQUENCE_BITS)
    out[count] = 45
    count += 1
    return count + digits_write(out + count, ident & ((1 << SEQUENCE_BITS) - 1))
