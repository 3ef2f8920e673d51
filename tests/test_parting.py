"""Seeing answered clients off, over real sockets and with a clock of the test's own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from sse_core.parting import Partings

ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


def until_gone(partings: Partings) -> None:
    """Turn until nobody is left."""
    deadline = time.monotonic() + 30
    while partings:
        assert time.monotonic() < deadline
        partings.turn(0.01)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_a_client_that_still_sends_gets_its_answer(pair: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    """What a client sends after its answer is read and forgotten, so that no reset destroys the answer on its way."""
    ours, theirs = pair
    partings = Partings(clock=clock)
    theirs.sendall(b"x" * 10_000)
    ours.sendall(ANSWER)
    partings.begin(ours)
    for _ in range(20):
        theirs.sendall(b"x" * 50_000)
        partings.turn(30)
    assert read_all(theirs) == ANSWER
    theirs.close()
    until_gone(partings)

    assert (partings.seen_off, partings.cut, partings.discarded_bytes) == (1, 0, 1_010_000)
    assert ours.fileno() == -1
    partings.close()


def test_a_client_that_has_left_is_forgotten_at_once(pair: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    """Most clients are gone when their answer is written: nothing is waited for, and nothing is registered."""
    ours, theirs = pair
    partings = Partings(clock=clock)
    theirs.close()
    partings.begin(ours)

    assert (len(partings), partings.seen_off, partings.cut) == (0, 1, 0)
    assert ours.fileno() == -1
    partings.close()


def test_a_connection_that_is_closed_already_is_nobodys(clock: Clock) -> None:
    """A connection that its request has closed is not counted."""
    ours, theirs = socket.socketpair()
    ours.close()
    partings = Partings(clock=clock)
    partings.begin(ours)

    assert (len(partings), partings.seen_off) == (0, 0)
    theirs.close()
    partings.close()


def test_a_client_that_never_leaves_is_cut_off(pair: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    """A client has its seconds, and not one more; the instant before it is still there."""
    ours, _theirs = pair
    partings = Partings(seconds=5, clock=clock)
    partings.begin(ours)
    clock.now = 4.999
    partings.turn()
    assert len(partings) == 1
    clock.now = 5.0
    partings.turn()

    assert (len(partings), partings.seen_off, partings.cut) == (0, 1, 1)
    assert ours.fileno() == -1
    partings.close()


def test_a_client_that_sends_on_and_on_is_cut_off(pair: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    """Of one client at most so many bytes are read: at the bound it is still there, one byte past it is cut off."""
    ours, theirs = pair
    partings = Partings(max_bytes=100_000, clock=clock)
    partings.begin(ours)
    sent = 0
    while sent < 100_000:
        sent += theirs.send(b"x" * min(10_000, 100_000 - sent))
        while partings.discarded_bytes < sent:
            partings.turn(30)
    assert (len(partings), partings.cut) == (1, 0)
    theirs.sendall(b"x")
    until_gone(partings)

    assert (partings.seen_off, partings.cut) == (1, 1)
    partings.close()


def test_there_is_room_for_so_many(clock: Clock) -> None:
    """At the bound all are waited for; with one more the oldest has to go."""
    pairs = [socket.socketpair() for _ in range(4)]
    partings = Partings(most=3, clock=clock)
    for ours, _ in pairs[:3]:
        partings.begin(ours)
    assert (len(partings), partings.cut) == (3, 0)
    partings.begin(pairs[3][0])

    assert (len(partings), partings.cut) == (3, 1)
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True, False, False, False]
    partings.close()
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True] * 4
    for _, theirs in pairs:
        theirs.close()
