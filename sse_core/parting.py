"""Seeing answered clients off: a connection that the server closes is closed so that its last answer arrives.

A socket that is closed while input is unread in it makes the kernel send a reset (RFC 9112, section 9.6), and the client
may lose the answer that went before; a proxy then tells 502 instead of the 413 that it was sent. So the sending side is
shut down first, and what the client still sends is read and forgotten until it has closed its side, or has had enough
time. All of that happens on one thread and without waiting for anybody: a client that never leaves costs a descriptor
for some seconds, and no thread.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable

#: How long a client may take to close its side, in seconds, and what it may send meanwhile, in bytes.
SECONDS = 5.0
MAX_BYTES = 128 << 20

_CHUNK = 1 << 18
# What one client gets of a turn: the thread has requests to hand out as well.
_READS = 4


class _Parting:
    """A client that was answered, and is on its way out."""

    __slots__ = ("connection", "deadline", "discarded")

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.discarded = 0


class Partings:
    """Connections that were answered and wait for their clients to leave. For one thread, which calls `turn` when
    `fileno` is readable and at least once a second.

    ``seconds`` and ``max_bytes`` bound each of them, ``most`` their number: beyond it the oldest is cut off. ``cut`` counts
    those that a bound has cut off, ``seen_off`` all that have ended, ``discarded_bytes`` what was read and forgotten.
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS,
        max_bytes: int = MAX_BYTES,
        most: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: For those that come from now on.
        self.seconds = seconds
        self._max_bytes = max_bytes
        self._most = most
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        # By descriptor, in the order of their deadlines: all have the same time.
        self._partings: dict[int, _Parting] = {}
        self._buffer = bytearray(_CHUNK)
        self.seen_off = 0
        self.cut = 0
        self.discarded_bytes = 0

    def __len__(self) -> int:
        return len(self._partings)

    def fileno(self) -> int:
        """A descriptor that is readable when `turn` has something to do."""
        return self._selector.fileno()

    def begin(self, connection: socket.socket) -> None:
        """Take over a connection whose answer is written; it is the caller's no more, and may be closed already."""
        if connection.fileno() == -1:
            return
        try:
            connection.setblocking(False)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            # The client was faster: nothing can be lost on its way to nobody.
            connection.close()
            self.seen_off += 1
            return
        parting = _Parting(connection, self._clock() + self.seconds)
        if not self._discard(parting):
            self._end(parting)
            return
        if len(self._partings) >= self._most:
            self._cut(next(iter(self._partings.values())))
        self._partings[connection.fileno()] = parting
        self._selector.register(connection, selectors.EVENT_READ)

    def turn(self, timeout: float = 0.0) -> None:
        """Read what has come, and end those that have left or whose time is over. Waits at most ``timeout`` seconds."""
        for key, _ in self._selector.select(timeout):
            parting = self._partings[key.fd]
            if not self._discard(parting):
                self._end(parting)
        now = self._clock()
        while self._partings:
            first = next(iter(self._partings.values()))
            if first.deadline > now:
                return
            self._cut(first)

    def close(self) -> None:
        """End all of them, and the use of this. May be repeated."""
        for parting in tuple(self._partings.values()):
            self._cut(parting)
        self._selector.close()

    def _discard(self, parting: _Parting) -> bool:
        """Read and forget; whether the client is still there, and within its bound."""
        for _ in range(_READS):
            try:
                received = parting.connection.recv_into(self._buffer)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not received:
                return False
            parting.discarded += received
            self.discarded_bytes += received
            if parting.discarded > self._max_bytes:
                self.cut += 1
                return False
        return True

    def _cut(self, parting: _Parting) -> None:
        self.cut += 1
        self._end(parting)

    def _end(self, parting: _Parting) -> None:
        descriptor = parting.connection.fileno()
        if self._partings.get(descriptor) is parting:
            del self._partings[descriptor]
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(parting.connection)
        parting.connection.close()
        self.seen_off += 1
