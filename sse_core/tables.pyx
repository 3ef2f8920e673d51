"""Tables from 64-bit numbers to little, kept outside Python: what is known of each of very many streams.

A dict entry with the objects that it leads to takes 150 bytes and more; here a number takes 21 to 43 while a table grows (at
most 128 after most have left), and a record its own size. Open addressing with linear probing (Knuth, volume 3, section 6.4,
algorithms L and R).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cdef extern from *:
    """
    /* glibc's string.h has it for GNU programs alone, and Python.h has included that. */
    extern void *memmem(const void *, size_t, const void *, size_t);
    """
    void *memmem(const void *, size_t, const void *, size_t) nogil

cdef enum:
    LEAST = 16  # places of a table


cdef struct Place:
    uint64_t key    # 0: free
    uint64_t value


cdef struct Table:
    Place *places
    size_t room     # places: a power of two, or 0 for none
    size_t used


cdef inline size_t _home(const Table *table, uint64_t key) noexcept nogil:
    # Mixed (Knuth, section 6.4, multiplicative hashing): keys may be numbers in a row, and those would be one run without a
    # gap, of which each removal looks at the rest.
    return <size_t>((key * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (table.room - 1)


cdef Place *_find(const Table *table, uint64_t key) noexcept nogil:
    """Its place, or the free one where it belongs; NULL in a table without places."""
    cdef size_t at
    if table.room == 0:
        return NULL
    at = _home(table, key)
    while table.places[at].key != key and table.places[at].key != 0:
        at = (at + 1) & (table.room - 1)
    return &table.places[at]


cdef bint _resize(Table *table, size_t room) noexcept nogil:
    """Move all to a table of another size. False, and nothing has changed, without memory."""
    cdef Table fresh
    cdef size_t i
    fresh.room = room
    fresh.used = table.used
    fresh.places = <Place *>calloc(room, sizeof(Place))
    if fresh.places == NULL:
        return False
    for i in range(table.room):
        if table.places[i].key != 0:
            _find(&fresh, table.places[i].key)[0] = table.places[i]
    free(table.places)
    table[0] = fresh
    return True


cdef bint _reserve(Table *table, size_t count) noexcept nogil:
    """Make room for so many more. False without memory."""
    cdef size_t room = max(<size_t>LEAST, table.room)
    while 4 * (table.used + count) > 3 * room:
        room *= 2
    return room == table.room or _resize(table, room)


cdef Place *_add(Table *table, uint64_t key) noexcept nogil:
    """The place of a key, which is new if its value is 0. NULL without memory. The next change moves places."""
    cdef Place *place = _find(table, key)
    if place == NULL or place.key == 0:
        if not _reserve(table, 1):
            return NULL
        place = _find(table, key)
        place.key = key
        place.value = 0
        table.used += 1
    return place


cdef void _remove(Table *table, Place *place) noexcept nogil:
    """Free a place, and close the gap that would hide those behind it."""
    cdef size_t gap = place - table.places
    cdef size_t at = gap
    cdef size_t home
    while True:
        at = (at + 1) & (table.room - 1)
        if table.places[at].key == 0:
            break
        home = _home(table, table.places[at].key)
        # It may move to the gap if its home is not between the two.
        if ((at - home) & (table.room - 1)) >= ((at - gap) & (table.room - 1)):
            table.places[gap] = table.places[at]
            gap = at
    table.places[gap].key = 0
    table.used -= 1
    # Far below where it would grow again. Without memory for a smaller one it stays.
    if table.room > LEAST and 8 * table.used < table.room:
        _resize(table, table.room // 2)


cdef class Counts:
    """How often each number was added and not taken back: a Counter of numbers from 1 to 2^64 - 1. Not thread-safe."""

    cdef Table _table

    def __dealloc__(self):
        free(self._table.places)

    def __len__(self) -> int:
        return self._table.used

    def count(self, uint64_t key) -> int:
        """How often it is there."""
        cdef Place *place = _find(&self._table, key)
        return 0 if place == NULL or place.key == 0 else place.value

    def reserve(self, size_t count) -> None:
        """Make room for so many numbers that are not there yet: to `add` them cannot fail then. Raises `MemoryError`."""
        if not _reserve(&self._table, count):
            raise MemoryError

    def add(self, uint64_t key) -> None:
        """Add one. Raises `MemoryError`, and `ValueError` for 0."""
        cdef Place *place
        if key == 0:
            raise ValueError("a key is above 0")
        place = _add(&self._table, key)
        if place == NULL:
            raise MemoryError
        place.value += 1

    def take(self, uint64_t key) -> None:
        """Take one back. Raises `KeyError` if there is none."""
        cdef Place *place = _find(&self._table, key)
        if place == NULL or place.key == 0:
            raise KeyError(key)
        place.value -= 1
        if place.value == 0:
            _remove(&self._table, place)


cdef class Records:
    """Bytes by number, from 1 to 2^64 - 1. Not thread-safe."""

    cdef Table _table

    def __dealloc__(self):
        cdef size_t i
        for i in range(self._table.room):
            if self._table.places[i].key != 0:
                free(<void *><uintptr_t>self._table.places[i].value)
        free(self._table.places)

    def __len__(self) -> int:
        return self._table.used

    def put(self, uint64_t key, bytes record not None) -> None:
        """Keep a record.

        Raises `MemoryError`, `ValueError` for 0 or 4 GB and more, and `KeyError` if there is one by that key.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(record)
        cdef Place *place
        cdef char *copy
        if key == 0 or size > 0xFFFFFFFF:
            raise ValueError("a key is above 0, and a record has less than 4 GB")
        copy = <char *>malloc(sizeof(uint32_t) + size)
        place = NULL if copy == NULL else _add(&self._table, key)
        if place == NULL or place.value != 0:
            free(copy)
            raise MemoryError if place == NULL else KeyError(key)
        (<uint32_t *>copy)[0] = <uint32_t>size
        memcpy(copy + sizeof(uint32_t), PyBytes_AS_STRING(record), size)
        place.value = <uintptr_t>copy

    def pop(self, uint64_t key) -> bytes | None:
        """Give up a record; None if there is none."""
        cdef Place *place = _find(&self._table, key)
        cdef bytes record
        if place == NULL or place.key == 0:
            return None
        record = _bytes(place)
        free(<void *><uintptr_t>place.value)
        _remove(&self._table, place)
        return record

    def having(self, bytes piece not None):
        """Yield those that have these bytes in them, (number, record), in no order.

        What is put or popped meanwhile may or may not be among them, and what it moves may be left out or come twice.
        """
        cdef size_t i = 0
        # A table may be another one after each yield.
        while i < self._table.room:
            if self._table.places[i].key != 0 and _has(&self._table.places[i], piece):
                yield self._table.places[i].key, _bytes(&self._table.places[i])
            i += 1


cdef bint _has(const Place *place, bytes piece):
    cdef char *copy = <char *><uintptr_t>place.value
    return memmem(copy + sizeof(uint32_t), (<uint32_t *>copy)[0], PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)) != NULL


cdef bytes _bytes(const Place *place):
    cdef char *copy = <char *><uintptr_t>place.value
    return PyBytes_FromStringAndSize(copy + sizeof(uint32_t), (<uint32_t *>copy)[0])
