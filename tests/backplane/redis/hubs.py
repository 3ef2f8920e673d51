"""Hubs that share a Redis, and what comes to their streams."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from sse_core import Hub
from tests.fanout.harness import Subscriber

MakeHub = Callable[..., Hub]


def listen(hub: Hub, topics: str | list[str] = "a", last_event_id: str | None = None, **options: Any) -> Subscriber:
    """A stream that has begun, as a server that hands connections over begins it."""
    stream = hub.subscribe(topics, last_event_id=last_event_id, **options)
    opening = hub.open_stream(stream)
    assert opening is not None, "sent away"
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    hub.adopt(stream, theirs)
    subscriber = Subscriber(ours)
    subscriber.parser.feed(opening)
    return subscriber


def read_some(subscriber: Subscriber, count: int) -> None:
    """Read until there are so many events, or nothing comes for a moment."""
    subscriber.socket.settimeout(0.2)
    with suppress(TimeoutError):
        while len(subscriber.events) < count:
            subscriber.receive()


def spublish(client: redis.Redis, channel: bytes, message: bytes) -> None:
    """Publish a message on a channel, past the script."""
    client.execute_command("SPUBLISH", channel, message)
