"""What has to come by a time, over real sockets and with a clock of the test's own."""

from __future__ import annotations

import gc
import socket
import threading

import pytest

from sse_core.arriving import Arrivals


@pytest.fixture
def pair(pair: tuple[socket.socket, socket.socket]) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection, on which nothing is waited for in vain."""
    for end in pair:
        end.settimeout(30)
    return pair


def test_who_is_late_is_cut_off(pair: tuple[socket.socket, socket.socket]) -> None:
    """A thread that waits for a late client finds the end of its input, and can still answer."""
    now = [0.0]
    arrivals = Arrivals(lambda: now[0])
    ours, theirs = pair
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(ours.recv(1)))
    reader.start()
    arrivals.expect("a", lambda: ours, 10)
    now[0] = 9.999
    arrivals.cut_late()
    assert arrivals.late == 0
    now[0] = 10.0
    arrivals.cut_late()
    reader.join(30)

    assert (received, arrivals.late) == ([b""], 1)
    ours.sendall(b"late")
    assert theirs.recv(10) == b"late"


def test_what_has_come_is_not_cut_off(pair: tuple[socket.socket, socket.socket]) -> None:
    """Once it has arrived the clock is of no matter, also if that is said twice."""
    now = [0.0]
    arrivals = Arrivals(lambda: now[0])
    ours, theirs = pair
    arrivals.expect("a", lambda: ours, 10)
    arrivals.arrived("a")
    arrivals.arrived("a")
    now[0] = 100.0
    arrivals.cut_late()
    theirs.sendall(b"x")

    assert (ours.recv(1), arrivals.late) == (b"x", 0)


def test_others_may_come_while_it_looks(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that is added in the middle of a look, as by another thread, does no harm to it."""
    arrivals = Arrivals(lambda: 0.0)
    ours, _ = pair

    class Garbage:
        """Adds a connection whenever the collector of garbage runs, and is then garbage again."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            if looking:
                arrivals.expect(object(), lambda: ours, 10)
                Garbage()

    thresholds = gc.get_threshold()
    for number in range(100):
        arrivals.expect(number, lambda: ours, 10)
    looking = [True]
    gc.disable()
    try:
        Garbage()
        gc.set_threshold(1)
        gc.enable()
        arrivals.cut_late()
    finally:
        looking.clear()
        gc.set_threshold(*thresholds)
        gc.enable()

    assert arrivals.late == 0


def test_a_connection_that_is_closed_hurts_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    """Of several that are late each is cut off, also after one that was closed meanwhile."""
    now = [0.0]
    arrivals = Arrivals(lambda: now[0])
    closed, other = socket.socketpair()
    arrivals.expect("a", lambda: closed, 1)
    arrivals.expect("b", lambda: pair[0], 1)
    closed.close()
    other.close()
    now[0] = 1.0
    arrivals.cut_late()

    assert (pair[0].recv(1), arrivals.late) == (b"", 2)
