"""Read and forget whatever arrives at the descriptors received over standard input, a unix socket, until that closes."""

from __future__ import annotations

import os
import select
import socket

from .descriptors import receive


def main() -> None:
    """Run until the other side of standard input is closed."""
    control = socket.socket(fileno=0)
    poller = select.epoll()
    poller.register(control, select.EPOLLIN)
    buffer = bytearray(1 << 16)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor != control.fileno():
                if os.readv(descriptor, [buffer]) == 0:
                    poller.unregister(descriptor)
                    os.close(descriptor)
                continue
            received = receive(control)
            if not received:
                return
            for each in received:
                poller.register(each, select.EPOLLIN)
            # Only now are they read, which is what the other side waits for.
            control.sendall(b"+")


if __name__ == "__main__":
    main()
