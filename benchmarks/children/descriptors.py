"""Descriptors handed from one process to another over a unix socket."""

from __future__ import annotations

import resource
import socket
from collections.abc import Sequence

#: The kernel takes at most 253 in one message.
MOST = 250


def raise_limit() -> None:
    """Allow this process, and what it starts, as many open files as the hard limit does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give(control: socket.socket, descriptors: Sequence[int]) -> None:
    """Send at most `MOST` descriptors and wait until they are taken."""
    socket.send_fds(control, [b"."], descriptors)
    if control.recv(1) != b"+":
        raise OSError("the process that was given descriptors has ended")


def receive(control: socket.socket) -> list[int]:
    """Take descriptors; none when the other side has closed."""
    _, descriptors, _, _ = socket.recv_fds(control, 1, MOST)
    return descriptors
