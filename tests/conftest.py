"""What tests of several folders need."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from sse_core import Hub

# A shell ignores it for what it starts in the background, and so would all that tests start, which Ctrl-C is to end.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub in memory that ends with the test."""
    with Hub() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Lets the generators of a test come to their ends."""
    event = threading.Event()
    yield event
    event.set()
