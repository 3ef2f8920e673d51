"""Free ports for servers that cannot say themselves which one they took."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux takes the ports of outgoing connections, of which tests make thousands: one of those
# could take the port between this question and the server's own bind.
_FIRST, _LAST = 20_000, 30_000
_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that was not given before in this process.

    At random, because other processes ask at the same time.
    """
    while True:
        # A generator of its own: a test may have seeded the common one, and another process done just the same.
        port = random.SystemRandom().randrange(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As servers do: a port whose last connections are still being forgotten is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
