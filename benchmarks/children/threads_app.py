"""A thread for each stream, in plain WSGI: ``gunicorn -k gthread --threads N benchmarks.children.threads_app:app``."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

_queues: set[queue.SimpleQueue[bytes]] = set()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes] | list[bytes]:
    """``/events``, ``/publish`` (the body is the event's data) and anything else, which is answered with 200."""
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        mine: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        _queues.add(mine)
        return _stream(mine)
    if environ["PATH_INFO"] == "/publish":
        frame = b"data: " + environ["wsgi.input"].read() + b"\n\n"
        for each in tuple(_queues):
            each.put(frame)
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Length", "0")])
    return []


def _stream(mine: queue.SimpleQueue[bytes]) -> Iterator[bytes]:
    try:
        # The head goes out with the first bytes of the body.
        yield b":\n\n"
        while True:
            yield mine.get()
    finally:
        _queues.discard(mine)
