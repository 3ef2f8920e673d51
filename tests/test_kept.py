"""`sse_core.kept`: what gunicorn has decided holds for the requests that follow, and what it would decide is left to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from sse_core.kept import KeptParser

FIRST = b"GET /a HTTP/1.1\r\nHost: example\r\n\r\n"


@pytest.fixture
def alarm() -> Iterator[int]:
    """An eventfd."""
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def kept(pair: tuple[socket.socket, socket.socket], alarm: int, **settings: int) -> KeptParser:
    """The parser of a connection on which a first request was read."""
    config = Config()
    for name, value in settings.items():
        config.set(name, value)
    parser = RequestParser(config, pair[0], "")
    pair[1].sendall(FIRST)
    request = next(parser)
    _, environ = wsgi.create(request, pair[0], "", "/socket", config)
    found = KeptParser(parser, config, alarm)
    found.learn(environ)
    return found


def header(size: int) -> bytes:
    """A request with a field of so many bytes, the end of its line included."""
    return FIRST[:-2] + b"A: ".ljust(size - 2, b"a") + b"\r\n\r\n"


def line(size: int) -> bytes:
    """A request whose line has so many bytes, its end included."""
    return FIRST.replace(b"/a", b"/a".ljust(size - len(b"GET  HTTP/1.1\r\n"), b"a"))


@pytest.mark.parametrize(
    ("settings", "taken", "left"),
    [
        ({"limit_request_field_size": 0}, header(8190), header(8191)),
        ({"limit_request_field_size": 100}, header(100), header(101)),
        ({"limit_request_line": 0}, line(8190), line(8191)),
        ({"limit_request_line": 16_000}, line(8190), line(8191)),
        ({"limit_request_line": 100}, line(100), line(101)),
    ],
)
def test_a_limit_is_never_larger_than_gunicorns(
    pair: tuple[socket.socket, socket.socket], alarm: int, settings: dict[str, int], taken: bytes, left: bytes
) -> None:
    """What is within gunicorn's limits, those that it has where a setting says none included, is taken, and nothing else."""
    parser = kept(pair, alarm, **settings)
    pair[1].sendall(taken)
    assert parser.take() is not None
    pair[1].sendall(left)
    assert parser.take() is None
    # Nothing of it was lost: it waits for gunicorn.
    assert parser.unreader.buf.getvalue() == left


def test_what_was_read_is_waited_for_no_more(pair: tuple[socket.socket, socket.socket], alarm: int) -> None:
    """A request that is in the parser already does not have to come, and one that has not is waited for."""
    parser = kept(pair, alarm)
    assert not parser.wait(0)
    pair[1].sendall(FIRST + FIRST)
    assert parser.wait(0)
    assert parser.take() is None
    assert next(parser).path == "/a"
    assert not parser.wait(10_000)
    assert next(parser).path == "/a"


def test_a_thread_that_waits_can_be_called_back(pair: tuple[socket.socket, socket.socket], alarm: int) -> None:
    """The alarm ends a wait, once, whatever has come meanwhile."""
    parser = kept(pair, alarm)
    pair[1].sendall(FIRST)
    os.eventfd_write(alarm, 1)
    assert not parser.wait(10_000)
    assert parser.wait(10_000)


def test_the_name_of_a_script_is_gunicorns(pair: tuple[socket.socket, socket.socket], alarm: int) -> None:
    """Where gunicorn takes paths apart it reads each request."""
    parser = kept(pair, alarm)
    parser.learn({"SCRIPT_NAME": "/app", "HTTP_HOST": "example"})
    pair[1].sendall(FIRST)
    assert parser.take() is None
    assert next(parser).path == "/a"


def test_the_end_of_a_connection_is_gunicorns(pair: tuple[socket.socket, socket.socket], alarm: int) -> None:
    """Where nothing comes, or nothing any more, nothing is taken."""
    parser = kept(pair, alarm)
    assert parser.take() is None
    pair[1].close()
    assert parser.take() is None
    with pytest.raises(StopIteration):
        next(parser)
