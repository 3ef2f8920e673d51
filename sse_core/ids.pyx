"""Ids: `<milliseconds>-<sequence>` on the wire, one 64-bit number inside.

The number is `milliseconds << 20 | sequence`, so that ids compare as integers and the id after a full millisecond is
simply the next number. Milliseconds have 44 bits (until the year 2527), sequences 20 (a million events in one
millisecond).
"""

from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint64_t

_SEQUENCES = 2**20
_MILLISECONDS = 2**44


def format_id(uint64_t number) -> str:
    """Return the text of an id. Thread-safe."""
    cdef char text[ID_TEXT_MAX]
    return PyUnicode_DecodeASCII(text, id_write(text, number), NULL)


def parse_id(text: str) -> int | None:
    """Return the number of an id's text, or None where `text` is no id of ours.

    None is no error: a browser sends back whatever id it last saw, and cannot be told to forget it.
    """
    milliseconds, hyphen, sequence = text.partition("-")
    if not (hyphen and _is_number(milliseconds) and _is_number(sequence)):
        return None
    number_ms, number_seq = int(milliseconds), int(sequence)
    if number_ms >= _MILLISECONDS or number_seq >= _SEQUENCES:
        return None
    return number_ms << SEQUENCE_BITS | number_seq


def _is_number(text: str) -> bool:
    # The bound on length comes before int(): converting a header full of digits is quadratic work.
    return 0 < len(text) <= 14 and text.isascii() and text.isdigit()
