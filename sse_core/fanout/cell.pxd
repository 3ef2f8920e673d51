# A cell is a 64-bit number with one writing thread and any number of reading threads: counters, gauges, heartbeats.
# Relaxed atomics are enough, since no other data is published through a cell. A slot is a pointer of the same kind, and
# what it points at is complete before readers can see it. An index is a place in a ring that is shared with the kernel: what
# lies before it is complete. These are all the atomics of the engine; everything else that crosses threads goes through a
# mailbox and its mutex.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    static inline uint64_t cell_get(const uint64_t *cell) { return __atomic_load_n(cell, __ATOMIC_RELAXED); }
    static inline void cell_set(uint64_t *cell, uint64_t n) { __atomic_store_n(cell, n, __ATOMIC_RELAXED); }
    static inline void cell_add(uint64_t *cell, uint64_t n) { cell_set(cell, cell_get(cell) + n); }
    static inline void *slot_get(void *const *slot) { return __atomic_load_n(slot, __ATOMIC_ACQUIRE); }
    static inline void slot_set(void **slot, void *p) { __atomic_store_n(slot, p, __ATOMIC_RELEASE); }
    static inline uint32_t index_get(const uint32_t *index) { return __atomic_load_n(index, __ATOMIC_ACQUIRE); }
    static inline void index_set(uint32_t *index, uint32_t n) { __atomic_store_n(index, n, __ATOMIC_RELEASE); }
    """
    uint64_t cell_get(const uint64_t *cell) noexcept nogil
    void cell_set(uint64_t *cell, uint64_t n) noexcept nogil
    void cell_add(uint64_t *cell, uint64_t n) noexcept nogil
    void *slot_get(void *const *slot) noexcept nogil
    void slot_set(void **slot, void *pointer) noexcept nogil
    uint32_t index_get(const uint32_t *index) noexcept nogil
    void index_set(uint32_t *index, uint32_t n) noexcept nogil
