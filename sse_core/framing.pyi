from sse_core.event import Event

def frame(event: Event, id: str | None = None) -> bytes:
    """The event's bytes on the wire: UTF-8, LF line ends, closed by a blank line (HTML standard, section 9.2.5)."""
