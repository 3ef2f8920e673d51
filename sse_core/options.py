"""What the options of a hub must be."""

from __future__ import annotations

from typing import Any

from sse_core.errors import ConfigurationError
from sse_core.event import Event
from sse_core.fanout.engine import MAX_STREAM_TOPICS


def check_options(options: dict[str, Any]) -> None:
    """Raise `ConfigurationError` for options of a `Hub`, by name, that cannot be. `EventError`: no name for an event."""
    least = {
        "loops": 1, "keepalive": 0.1, "send_timeout": 0.1, "max_event_bytes": 64, "max_streams": 1, "max_topics": 1,
        "max_stream_topics": 1, "max_history_bytes": 1, "mailbox_bytes": 4096, "drain_seconds": 0,
        "max_producers": 1, "ahead_bytes": 1,
    }  # fmt: skip
    for name, bound in least.items():
        if not options[name] >= bound:
            raise ConfigurationError(f"{name}: must be at least {bound}")
    if options["max_stream_topics"] > MAX_STREAM_TOPICS:
        raise ConfigurationError(f"max_stream_topics: must be at most {MAX_STREAM_TOPICS}")
    if options["retry"] is not None and options["retry"] < 0:
        raise ConfigurationError("retry: must not be negative")
    least_retry, most_retry = options["drain_retry"]
    if not 0 <= least_retry <= most_retry:
        raise ConfigurationError("drain_retry: must be two milliseconds, the lesser first")
    if options["max_event_bytes"] > options["mailbox_bytes"] // 2:
        raise ConfigurationError("max_event_bytes: must be at most half of mailbox_bytes, or no event might ever fit")
    Event("", event=options["gap_event"])
