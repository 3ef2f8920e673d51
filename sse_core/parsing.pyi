from typing import final

from sse_core.event import Event

@final
class EventParser:
    """An incremental parser of one event stream, exactly by the HTML standard, section 9.2.6."""

    def __new__(cls, *, max_event_bytes: int = 1048576) -> EventParser: ...
    @property
    def last_event_id(self) -> str: ...
    @property
    def max_event_bytes(self) -> int: ...
    @property
    def retry(self) -> int | None: ...
    def feed(self, chunk: bytes | bytearray | memoryview) -> list[Event]:
        """Take the next bytes of the stream, cut anywhere; return the events that they complete, in order."""
