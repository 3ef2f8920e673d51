"""Tables from 64-bit numbers to little, kept outside Python: what is known of each of very many streams.

A dict entry with the objects that it leads to takes 150 bytes and more; here a number takes 21 to 43, and a record its own
size. Open addressing with linear probing (Knuth, volume 3, section 6.4, algorithms L and R).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

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
    # Keys are hashes, or numbers in a row: both are spread as they are.
    return key & (table.room - 1)


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


cdef Place *_add(Table *table, uint64_t key) noexcept nogil:
    """The place of a key, which is new if its value is 0. NULL without memory. The next change moves places."""
    cdef Place *place
    if 4 * (table.used + 1) > 3 * table.room and not _resize(table, max(<size_t>LEAST, 2 * table.room)):
        return NULL
    place = _find(table, key)
    if place.key == 0:
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

    def __iter__(self):
        """All of them, (number, record), in no order. Nothing may change meanwhile."""
        cdef size_t i
        for i in range(self._table.room):
            if self._table.places[i].key != 0:
                yield self._table.places[i].key, _bytes(&self._table.places[i])


cdef bytes _bytes(const Place *place):
    cdef char *copy = <char *><uintptr_t>place.value
    return PyBytes_FromStringAndSize(copy + sizeof(uint32_t), (<uint32_t *>copy)[0])
