"""The door for compiled callers: an event and an id that is already known to be clean."""

from sse_core.event cimport Event


# `id` of `id_len` bytes is UTF-8 without CR, LF and NUL (not checked here), or NULL for a block without an id line.
# It replaces the event's own id. A block with nothing in it at all would be a lone LF: the caller gives an id then.
cdef bytes frame_with_id(Event event, const char *id, Py_ssize_t id_len)
