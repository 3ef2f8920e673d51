"""What a hub tells of itself beside its counters: how streams ended, and how long things took."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from sse_core.errors import ConfigurationError
from sse_core.fanout.engine import MAX_REQUEST_ID_BYTES

#: Ends that wait to be asked for; the oldest is forgotten, and counted.
MOST_ENDS = 16_384


class StreamEnd(NamedTuple):
    """One stream that ended. Streams have numbers from 1 on, in the order in which their connections were adopted."""

    number: int
    #: ``client``, ``lagging``, ``timeout``, ``error``, ``drained``, ``closed``, ``complete``, ``expired``, ``revoked``.
    reason: str
    #: How long it was open, to within a tenth of one.
    seconds: float
    #: Events that it was sent, gaps and keepalives left out.
    events: int
    #: Bytes that it was sent, those of its head and opening left out.
    bytes: int
    #: As given to `Hub.subscribe`.
    subject: str | None
    request_id: str | None


class Histogram(NamedTuple):
    """How long things took: ``buckets`` are upper bounds in seconds, each with how many took so long or less."""

    buckets: tuple[tuple[float, int], ...] = ()
    total: int = 0
    #: All of it together.
    seconds: float = 0.0


class Ends:
    """The ends that nobody has asked for yet. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._ends: deque[StreamEnd] = deque(maxlen=MOST_ENDS)
        #: How many were forgotten.
        self.forgotten = 0

    def add(self, ends: Iterable[StreamEnd]) -> None:
        """Keep them until they are taken."""
        for end in ends:
            self.forgotten += len(self._ends) == MOST_ENDS
            self._ends.append(end)

    def take(self) -> list[StreamEnd]:
        """All of them, the oldest first."""
        ends = list(self._ends)
        self._ends.clear()
        return ends


def check_request_id(request_id: object) -> None:
    """Raise `ConfigurationError` unless it is text that the engine can keep."""
    if not isinstance(request_id, str):
        raise ConfigurationError(f"request_id: must be str, not {type(request_id).__name__}")
    if not 0 < len(request_id) <= MAX_REQUEST_ID_BYTES or not (request_id.isascii() and request_id.isprintable()):
        raise ConfigurationError(f"request_id: must be 1 to {MAX_REQUEST_ID_BYTES} printable ASCII characters")
