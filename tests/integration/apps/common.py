"""What all the small applications share: one hub, what its routes answer, and a side door that no server can block.

The side door is a unix socket of this process, one JSON object a line: tests read counters and publish through it
while every thread of the server may be taken.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from sse_core import Hub

FOLDER = os.environ["SSE_TEST_FOLDER"]

_options = json.loads(os.environ.get("SSE_TEST_HUB", "{}"))
hub = Hub(**{name: tuple(value) if isinstance(value, list) else value for name, value in _options.items()})
#: gunicorn's worker object, where there is one; see gunicorn_conf.py.
worker: Any = None
#: A request for /gate waits until the side door opens it.
gate = threading.Event()


def topics(query: str) -> list[str]:
    """The topics that a query string names."""
    return parse_qs(query)["topic"]


def head() -> list[tuple[str, str]]:
    """A header field that says which process answers."""
    return [("X-Worker", str(os.getpid()))]


def publish(query: str) -> bytes:
    """Publish what a query string says; return the event's id as JSON."""
    fields = parse_qs(query)
    return json.dumps({"id": hub.publish(fields["topic"][0], fields["data"][0]).id}).encode()


def state() -> dict[str, int]:
    """The hub's counters, and what is known of this process."""
    # A hub that was not used yet has no engine, and so not all of its counters.
    numbers = {
        "streams": 0,
        "streams_adopted": 0,
        **hub.stats(),
        "pid": os.getpid(),
        "threads": threading.active_count(),
    }
    # Counted here and not by the test: the side door's own connection is then always one of them.
    numbers["descriptors"] = len(os.listdir("/proc/self/fd"))
    if worker is not None and hasattr(worker, "nr_conns"):
        numbers["nr_conns"] = worker.nr_conns
        if hasattr(worker, "connection_stats"):
            numbers |= worker.connection_stats()
        numbers["stopping"] = not worker.alive and getattr(worker, "_draining", True)
    return numbers


def stats() -> bytes:
    """The state as JSON."""
    return json.dumps(state()).encode()


def notify(kind: str, **fields: Any) -> None:
    """Tell the test what happened."""
    message = {"kind": kind, "pid": os.getpid(), "ppid": os.getppid(), **fields}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.sendto(json.dumps(message).encode(), f"{FOLDER}/notices")


def _produced() -> Iterator[str]:
    """What a run yields: something, and the rest when the gate is opened."""
    yield "first"
    gate.wait()
    yield "second"


class _StuckHub:
    """A hub whose loop makes no turn any more, as its worker sees it."""

    streams = 0
    producing = 0
    drain_seconds = 0.0

    def is_healthy(self) -> bool:
        return False

    def drain(self, seconds: float | None = None, *, spare: float = 0.0) -> None:
        pass

    def close(self) -> None:
        pass


def _serve_side_door(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                command = json.loads(line)
                answer: dict[str, Any] = {}
                if command["do"] == "publish":
                    answer = {"id": hub.publish(command["topic"], command["data"]).id}
                elif command["do"] == "produce":
                    answer = {"topic": hub.produce(_produced).topic}
                elif command["do"] == "stats":
                    answer = state()
                elif command["do"] == "get stuck":
                    worker.hubs.add(_StuckHub())
                elif command["do"] == "hurry":
                    worker.head_seconds = command.get("seconds", worker.head_seconds)
                    worker.partings.seconds = command.get("parting", worker.partings.seconds)
                    worker.next_milliseconds = command.get("next", worker.next_milliseconds)
                elif command["do"] == "open gate":
                    gate.set()
                lines.write(json.dumps(answer).encode() + b"\n")
                lines.flush()


def open_side_door() -> None:
    """Serve the side door on a thread (a greenlet once gevent has patched)."""
    listener = socket.socket(socket.AF_UNIX)
    path = f"{FOLDER}/{os.getpid()}"
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    listener.listen(64)
    threading.Thread(target=_serve_side_door, args=(listener,), daemon=True).start()
