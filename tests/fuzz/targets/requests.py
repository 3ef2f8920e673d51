"""`sse_core.http`: whatever is taken for a request is what gunicorn takes it for, and a head that is written is gunicorn's."""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from gunicorn.util import hop_headers

from sse_core.http import format_head, parse_request

from .choices import Choices

LIMITS = (4094, 100, 8190)
CONFIG = Config()
DROPPED = frozenset(hop_headers)


class _Sent:
    """A socket that keeps what is sent."""

    data = b""

    def sendall(self, data: bytes) -> None:
        """Keep it."""
        self.data += data


def run(data: bytes) -> None:
    """Compare both ways."""
    choices = Choices(data)
    status = choices.text(16)
    headers = [(choices.text(16), choices.text(16)) for _ in range(choices.number(4))]
    written = format_head(status, [*headers, ("Content-Length", "5")], DROPPED)
    sent = choices.take(choices.left)
    ours = parse_request(sent, *LIMITS)
    if written is not None:
        response = Response(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", *LIMITS), _Sent(), CONFIG)
        response.start_response(status, [*headers, ("Content-Length", "5")])
        response.send_headers()
        lines = response.sock.data.split(b"\r\n")
        assert written == (b"\r\n".join([lines[0], *lines[4:-2], b""]), 5)
    if ours is not None:
        parser: Any = RequestParser(CONFIG, iter([sent]), ("127.0.0.1", 1))
        theirs = next(parser)
        assert ours.headers == theirs.headers
        assert (ours.method, ours.uri, ours.path, ours.query) == (theirs.method, theirs.uri, theirs.path, theirs.query)
        assert ours.body.read() == theirs.body.read()
        assert parser.unreader.read() == b""
