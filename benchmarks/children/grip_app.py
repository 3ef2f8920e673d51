"""What stands behind Pushpin: it asks for each stream to be held, and sees nothing of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CHANNEL = "benchmark"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """``/events`` is an instruction to hold the connection as a stream; anything else is answered with 200."""
    if environ["PATH_INFO"] != "/events":
        start_response("200 OK", [("Content-Length", "0")])
        return []
    head = [("Content-Type", "text/event-stream"), ("Grip-Hold", "stream"), ("Grip-Channel", CHANNEL)]
    start_response("200 OK", head)
    return [b":\n\n"]
