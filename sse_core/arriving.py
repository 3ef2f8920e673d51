"""How long a request may take to arrive: who sends a byte now and then would hold a thread for ever.

A thread that reads a request blocks in ``recv``. Another one looks at the clock, and shuts the receiving side of what is
late: the reader finds the end of the input, and what is to be sent can still be sent.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Hashable

#: Where a request's environ has the `Arrivals` of its server: for who reads a body, under a key of its own.
ENVIRON = "sse_core.arrivals"


class Arrivals:
    """Connections on which something has to come by a time, each under a key of the caller's. Thread-safe.

    ``late`` counts those that were cut off.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Each method is one operation of the dictionary: no lock, since every request passes here twice.
        self._waits: dict[Hashable, tuple[float, Callable[[], socket.socket]]] = {}
        self.late = 0

    def expect(self, key: Hashable, connection: Callable[[], socket.socket], seconds: float) -> None:
        """Cut the connection off unless `arrived` is called within so many seconds. ``connection`` is asked for it then:
        TLS replaces the socket while the handshake is under way."""
        self._waits[key] = (self._clock() + seconds, connection)

    def arrived(self, key: Hashable) -> bool:
        """What was expected under this key has come, or is waited for no more. May be repeated. False if it was too late."""
        return self._waits.pop(key, None) is not None

    def cut_late(self) -> None:
        """Shut the receiving side of all that are late. Called now and then by one thread; never waits."""
        now = self._clock()
        # A copy is made in one step. Of the items of the dictionary itself each is an object, and with one the collector of
        # garbage may run, and with it another thread, which adds to them.
        for key, (deadline, connection) in self._waits.copy().items():
            # Whoever takes it out first decides: a request that has just come whole is not cut any more.
            if deadline <= now and self._waits.pop(key, None) is not None:
                self.late += 1
                with contextlib.suppress(OSError):
                    # The plain socket's own method, or TLS would forget its keys and the answer went out in the clear.
                    socket.socket.shutdown(connection(), socket.SHUT_RD)
