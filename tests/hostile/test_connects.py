"""Thousands of connections that come and go, in every way in which one can go: nothing of them is left."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.integration.servers import Server, back_to_rest, gunicorn, until

REQUEST = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"
#: How a client comes and goes: what it sends, and whether it waits for the answer's beginning.
WAYS = [
    (b"", False),
    (b"\x00\xff" * 10 + b"\r\n\r\n", True),
    (REQUEST[:20], False),
    (REQUEST, False),
    (REQUEST, True),
    (REQUEST + REQUEST, True),
    (b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n", True),
    (b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nxxx", True),
]


def come_and_go(server: Server, number: int) -> None:
    """Connect in one of the ways, and leave in one of three."""
    data, waits = WAYS[number % len(WAYS)]
    with contextlib.suppress(ConnectionError), connected(server) as connection:
        connection.sendall(data)
        if waits:
            connection.recv(1)
        match number // len(WAYS) % 3:
            case 0:
                # A reset, where there is such a thing.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                connection.shutdown(socket.SHUT_WR)


def connected(server: Server) -> socket.socket:
    """A connection, as soon as the kernel's queue has room for it: where it is full a unix socket says so at once."""
    while True:
        try:
            return server.connect()
        except BlockingIOError:
            time.sleep(0.001)


def crowd(server: Server, clients: int, threads: int = 8) -> None:
    """Let so many clients come and go, on several threads."""
    failures: list[BaseException] = []

    def run(first: int) -> None:
        try:
            for number in range(first, clients, threads):
                come_and_go(server, number)
        except BaseException as error:
            failures.append(error)

    runners = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert failures == []


def resident_kib(pid: int) -> int:
    """The memory that a process has in RAM now."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


def is_settled(stats: dict[str, int]) -> bool:
    """Whether nobody is on the way in, there, or on the way out: all at one moment, since one becomes another."""
    ended = sum(count for key, count in stats.items() if key.startswith("streams_ended_"))
    left = stats["streams"] + stats["nr_conns"] + stats["connections_parting"]
    return not left and ended == stats["streams_adopted"]


def check_drift(server: Server, clients: int) -> None:
    """Let them come and go twice; the second time finds everything as the first has left it."""
    with back_to_rest(server):
        crowd(server, clients // 2)
        until(lambda: is_settled(server.stats()), "nobody is left")
        before, memory = server.stats(), resident_kib(server.worker)
        crowd(server, clients // 2)
        for gauge in ("descriptors", "threads", "topics", "history_bytes", "carried_bytes"):
            # What waits in the listener's queue is let in after the last client has gone.
            until(lambda gauge=gauge: is_settled(now := server.stats()) and now[gauge] == before[gauge], gauge)
        assert server.stats()["streams_adopted"] > before["streams_adopted"]
        # What the allocator keeps is no leak; a leak of a kilobyte for each would be ten times that.
        assert resident_kib(server.worker) - memory < max(4096, clients // 10)


def test_nothing_is_left_of_two_thousand() -> None:
    """After 2,000 clients that came and went in every way no descriptor, thread, stream or byte is left of them."""
    with gunicorn(threads=4) as server:
        check_drift(server, 2_000)


@pytest.mark.soak
def test_nothing_is_left_of_a_hundred_thousand() -> None:
    """The same after 100,000."""
    with gunicorn(threads=4) as server:
        check_drift(server, 100_000)
