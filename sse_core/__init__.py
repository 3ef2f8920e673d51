"""Server-Sent Events for WSGI applications: event framing, parsing, and a native fan-out core.

Importing it starts nothing. `Hub` is where to begin: see docs/embedding.md.
"""

from sse_core.backplane import Backplane, Receipt
from sse_core.backplane.memory import MemoryBackplane
from sse_core.errors import (
    BackplaneError,
    BusyError,
    ConfigurationError,
    EventError,
    HubClosedError,
    LimitError,
    MultiprocessError,
    ParseError,
    SSEError,
    TopicError,
)
from sse_core.event import Event
from sse_core.framing import frame
from sse_core.hub import Hub
from sse_core.parsing import EventParser
from sse_core.stream import EventStream
from sse_core.topics import TopicOptions, check_topic

__all__ = [
    "Backplane",
    "BackplaneError",
    "BusyError",
    "ConfigurationError",
    "Event",
    "EventError",
    "EventParser",
    "EventStream",
    "Hub",
    "HubClosedError",
    "LimitError",
    "MemoryBackplane",
    "MultiprocessError",
    "ParseError",
    "Receipt",
    "SSEError",
    "TopicError",
    "TopicOptions",
    "check_topic",
    "frame",
]
