"""Descriptors that another process drains, so that reading them is no part of what is measured; and streams on such ones."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from sse_core import Hub

from .children.descriptors import MOST, give, raise_limit
from .harness import FOLDER, BenchmarkError, stop

#: Takes at most `MOST` descriptors; they may be closed here afterwards.
Give = Callable[[Sequence[int]], None]


@contextlib.contextmanager
def drainer(cores: set[int] | None = None) -> Iterator[Give]:
    """Run a process that reads and forgets what arrives at what it is given: on ``cores``, or on all that are not ours."""
    raise_limit()
    control, theirs = socket.socketpair()
    with control, theirs:
        others = cores or set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.children.drain"],
            cwd=FOLDER.parent,
            stdin=theirs.fileno(),
            preexec_fn=lambda: os.sched_setaffinity(0, others or {0}),
        )
        theirs.close()
        try:
            yield lambda descriptors: give(control, descriptors)
        finally:
            control.close()
            stop(process)


@contextlib.contextmanager
def subscribed(hub: Hub, subscribers: int, topics: str | Sequence[str]) -> Iterator[None]:
    """Subscribe so many socket pairs to the topics; the other ends are drained."""
    if not subscribers:
        yield
        return
    with drainer() as drain:
        for at in range(0, subscribers, MOST):
            _subscribe(hub, drain, min(MOST, subscribers - at), topics)
        yield


def _subscribe(hub: Hub, drain: Give, count: int, topics: str | Sequence[str]) -> None:
    ends: list[socket.socket] = []
    try:
        for _ in range(count):
            ours, drained = socket.socketpair()
            ends.append(drained)
            ours.setblocking(False)
            stream = hub.subscribe(topics)
            # As a WSGI server does it, without one: the opening bytes are the server's to send, and of no interest here.
            if hub.open_stream(stream) is None:
                raise BenchmarkError("the hub has no room for another stream")
            hub.adopt(stream, ours)
        drain([end.fileno() for end in ends])
    finally:
        for end in ends:
            end.close()
