from typing import NamedTuple

from sse_core.errors import SSEError
from sse_core.event import Event

class Entry(NamedTuple):
    """One event of a topic: its number, the number of the topic's event before it, and the event (its ``id`` is None)."""

    number: int
    before: int
    event: Event

class MessageError(SSEError, ValueError):
    """Another program's message, or entry of a stream, is none of ours. It cannot be delivered and has to be told as lost."""

    number: int | None
    reason: str

    def __init__(self, number: int | None, reason: str) -> None: ...

def parse_number(text: bytes) -> int | None:
    """Return the number of an id's text, or None where it is no id. Thread-safe."""

def decode(payload: bytes) -> list[Entry]:
    """Return the events of a live message, in order. Raise `MessageError`. Thread-safe."""

def entry(id: bytes, fields: list[bytes]) -> Entry:
    """Return one entry of a topic's stream: ``fields`` are names and values in turn. Raise `MessageError`. Thread-safe."""
