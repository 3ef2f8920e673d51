"""A function of OpenFaaS that streams: five messages, a second apart, then `[DONE]`."""

import os
import time
from collections.abc import Iterator

from flask import Response, request

from sse_core import Hub, RedisBackplane

MESSAGES = 5

# Replicas that share a Redis are one: a client that comes back to another of them goes on where it was.
redis_url = os.environ.get("REDIS_URL")
hub = Hub(RedisBackplane(redis_url)) if redis_url else Hub()


def handle(req: str) -> Response | tuple[str, int]:
    """Answer a request of the template's: `req` is its body, everything else is Flask's `request`."""
    # By name, not by "*/*": it is what the gateway and the watchdog go by when they stream instead of buffering.
    if "text/event-stream" not in request.accept_mimetypes.values():
        return "This function streams: send Accept: text/event-stream\n", 406
    stream = hub.stream(messages, request.environ)
    return Response(stream, status=stream.status, headers=stream.headers)


def messages() -> Iterator[str]:
    """What goes out, an event for each."""
    for i in range(1, MESSAGES + 1):
        time.sleep(1)
        yield f"Message {i} of {MESSAGES}"
    yield "[DONE]"
