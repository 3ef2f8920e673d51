"""Server-Sent Events for WSGI applications: event framing, parsing, and a native fan-out core.

Importing it starts nothing. `Hub` is where to begin: see docs/embedding.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sse_core.backplane import Backplane, Receipt
from sse_core.backplane.memory import MemoryBackplane
from sse_core.errors import (
    BackplaneError,
    BusyError,
    ConfigurationError,
    ConflictError,
    EventError,
    FailedError,
    ForbiddenError,
    HubClosedError,
    LimitError,
    MultiprocessError,
    ParseError,
    SSEError,
    StoppedError,
    TopicError,
)
from sse_core.event import Event
from sse_core.framing import frame
from sse_core.hub import Hub
from sse_core.lease import Lease
from sse_core.parsing import EventParser
from sse_core.producer import Producer
from sse_core.progress import Progress, ProgressMeter
from sse_core.stream import EventStream
from sse_core.telemetry import Histogram, StreamEnd
from sse_core.topics import TopicOptions, check_topic

if TYPE_CHECKING:
    from sse_core.backplane.redis.backplane import RedisBackplane
    from sse_core.backplane.redis.client import redis_client
    from sse_core.backplane.redis.publisher import publish, publish_many

__all__ = [
    "Backplane",
    "BackplaneError",
    "BusyError",
    "ConfigurationError",
    "ConflictError",
    "Event",
    "EventError",
    "EventParser",
    "EventStream",
    "FailedError",
    "ForbiddenError",
    "Histogram",
    "Hub",
    "HubClosedError",
    "Lease",
    "LimitError",
    "MemoryBackplane",
    "MultiprocessError",
    "ParseError",
    "Producer",
    "Progress",
    "ProgressMeter",
    "Receipt",
    "RedisBackplane",
    "SSEError",
    "StoppedError",
    "StreamEnd",
    "TopicError",
    "TopicOptions",
    "check_topic",
    "frame",
    "publish",
    "publish_many",
    "redis_client",
]

# Known only when asked for: they import redis-py, which who embeds the core in one process need not have.
_OF_REDIS = {
    "RedisBackplane": "backplane",
    "publish": "publisher",
    "publish_many": "publisher",
    "redis_client": "client",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_REDIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"sse_core.backplane.redis.{_OF_REDIS[name]}"), name)
