"""What a published event carries, so that whoever receives it can judge it: who, where, the how manyeth, when, and a checksum.

A stamp is one word of characters that mean nothing in JSON, URLs and forms. A server may wrap it in whatever it likes: it is
found within the data that arrives. A *mark* carries no event: it says which number comes next, so that a stream that has
received it is known to be subscribed, and owed everything from that number on.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

PREFIX = "sse-load~"
_FIELDS = re.compile(
    r"sse-load~([em])~([\w.-]+)~(\d+)~([\w./-]+)~(\d+)~(-?\d+)~([0-9a-f]{8})~(-*)\.",
    re.ASCII,
)


class Stamp(NamedTuple):
    """One event or mark. ``number`` counts the events of one source in one topic from 1; of a mark it is the next event's."""

    run: str
    source: int
    topic: str
    number: int
    #: When it was published: microseconds of the run's clock.
    microseconds: int
    is_mark: bool = False


class AlteredError(ValueError):
    """Something that was stamped, and is not what was published."""


def encode(stamp: Stamp, size: int = 0) -> str:
    """Return the stamp as text of at least ``size`` characters."""
    fields = (
        f"{'m' if stamp.is_mark else 'e'}~{stamp.run}~{stamp.source}~{stamp.topic}~{stamp.number}~{stamp.microseconds}"
    )
    # Prefix, fields, checksum, three separators and the full stop.
    padding = "-" * (size - len(PREFIX) - len(fields) - 11)
    return f"{PREFIX}{fields}~{_checksum(fields, len(padding)):08x}~{padding}."


def find(data: str) -> Stamp | None:
    """Return the stamp within an event's data, or None where there is none.

    Raises `AlteredError` where there was one: cut off, or with a checksum that does not fit.
    """
    match = _FIELDS.search(data)
    if match is None:
        if PREFIX in data:
            raise AlteredError(f"no whole stamp: {data[:200]!r}")
        return None
    kind, run, source, topic, number, microseconds, checksum, padding = match.groups()
    fields = f"{kind}~{run}~{source}~{topic}~{number}~{microseconds}"
    if _checksum(fields, len(padding)) != int(checksum, 16):
        raise AlteredError(f"the checksum does not fit: {data[:200]!r}")
    return Stamp(run, int(source), topic, int(number), int(microseconds), kind == "m")


def _checksum(fields: str, padding: int) -> int:
    return zlib.crc32(f"{fields}~{padding}".encode())
