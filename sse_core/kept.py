"""Requests on a connection that was kept alive, in less time: a publisher sends one after the other.

gunicorn reads the first request of each connection. What its environ says of the connection is the `Template` for those
that follow: a plain one (`sse_core.http`) adds its own fields to it, and one that is not plain, or of which gunicorn might
have to decide anything anew, is read by gunicorn as ever. The application is the same, and so is what it sees.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from sse_core.arriving import ENVIRON as ARRIVALS
from sse_core.http import Request, format_head, parse_request
from sse_core.offer import GunicornOffer

if TYPE_CHECKING:
    from sse_core.hub import Hub
    from sse_core.stream import EventStream
    from sse_core.worker import EventWorker

#: The most bytes of a request that is read at once; a larger one is gunicorn's.
_MOST_BYTES = 16384
# Up to here it costs less to copy an answer than to send its head alone.
_MOST_JOINED = 65536
# What gunicorn makes of limits that are 0, negative or beyond its own.
_MOST_LINE = 8190
_MOST_FIELDS = 32768
_MOST_FIELD = 8190

_DROPPED = frozenset(util.hop_headers)
#: What an environ has of one request, next to ``HTTP_*``. Of a body that is there nobody awaits the arrival.
_OF_A_REQUEST = frozenset(
    {
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "PATH_INFO",
        "QUERY_STRING",
        "RAW_URI",
        "REQUEST_METHOD",
        "SERVER_PROTOCOL",
        "wsgi.early_hints",
        "wsgi.input",
        ARRIVALS,
    }
)


class Template:
    """What the environs of one connection have in common. ``environ`` is one of them, as gunicorn has made it.

    ``decisive``: the fields, by their names in an environ, on which gunicorn has decided something that is in there. `fill`
    is False for a request that has others.
    """

    def __init__(self, environ: Mapping[str, Any], decisive: Iterable[str]) -> None:
        self._decisive = tuple((name, environ.get(name)) for name in decisive)
        self._common = {
            name: value for name, value in environ.items() if name not in _OF_A_REQUEST and not name.startswith("HTTP_")
        }

    def fill(self, request: Request) -> bool:
        """Set the environ of a request, all but ``wsgi.early_hints``."""
        fields = request.fields
        for name, value in self._decisive:
            if fields.get(name) != value:
                return False
        request.environ = environ = self._common.copy()
        environ.update(fields)
        environ["wsgi.input"] = request.body
        environ["REQUEST_METHOD"] = request.method
        environ["SERVER_PROTOCOL"] = "HTTP/1.1"
        environ["RAW_URI"] = request.uri
        environ["PATH_INFO"] = request.path
        environ["QUERY_STRING"] = request.query
        return True


class KeptParser:
    """Stands in for gunicorn's parser of a connection. For one thread at a time."""

    def __init__(self, parser: RequestParser, cfg: Any, alarm: int) -> None:
        """``alarm`` is an eventfd: written to, it ends `wait`."""
        self._parser = parser
        self._alarm = alarm
        self._socket = parser.unreader.sock
        self._limits = (
            # A longer line may be allowed, and is gunicorn's then.
            min(_positive(cfg.limit_request_line, _MOST_LINE), _MOST_LINE),
            min(_positive(cfg.limit_request_fields, _MOST_FIELDS), _MOST_FIELDS),
            _positive(cfg.limit_request_field_size, _MOST_FIELD),
        )
        self._decisive = ("HTTP_HOST", *("HTTP_" + name.replace("-", "_") for name in cfg.secure_scheme_headers))
        self._template: Template | None = None
        # Whether the last one was plain: then nothing of it is left, neither here nor in the parser.
        self._is_clean = False
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(alarm, select.POLLIN)

    @property
    def unreader(self) -> Any:
        """gunicorn's, with what was read and belongs to the next request."""
        return self._parser.unreader

    def learn(self, environ: Mapping[str, Any]) -> None:
        """gunicorn has read a request, and has made this environ of it."""
        # With a name of the script gunicorn takes paths apart.
        self._template = None if environ["SCRIPT_NAME"] else Template(environ, self._decisive)

    def wait(self, milliseconds: int) -> bool:
        """Wait for the next request; whether something came. False at once if something of it was read already."""
        if not self._is_clean and self.unreader.buf.getvalue():
            return False
        ready = self._poll.poll(milliseconds)
        if len(ready) == 1 and ready[0][0] != self._alarm:
            return True
        if ready:
            os.eventfd_read(self._alarm)
        return False

    def take(self) -> Request | None:
        """Return the next request if it is there, whole and plain, with its environ; else leave it for `__next__`."""
        if self._template is None or (not self._is_clean and self.unreader.buf.getvalue()):
            return None
        try:
            data = self._socket.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return None
        request = parse_request(data, *self._limits)
        self._is_clean = request is not None and self._template.fill(request)
        if self._is_clean:
            return request
        self.unreader.unread(data)
        return None

    def __next__(self) -> Any:
        """Read a request as gunicorn does."""
        self._is_clean = False
        return next(self._parser)

    def finish_body(self, deadline: float | None = None) -> bool:
        """Whether nothing of the last request is left to be read."""
        return bool(self._parser.finish_body(deadline=deadline))


def _positive(limit: int, otherwise: int) -> int:
    return limit if limit > 0 else otherwise


class KeptResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's response to a `Request`. A head that is plain, and a short body with it, are sent in one go.

    It is the offer for its request, too; ``worker`` and ``environ`` are for that.
    """

    worker: EventWorker
    environ: dict[str, Any]
    status: str | None
    headers_sent: bool
    response_length: int | None

    _head: bytes | None = None
    # Hardly any request of these asks for a stream: made when one does.
    _offer: GunicornOffer | None = None

    def use(self, hub: Hub) -> None:
        """See `Offer.use`."""
        self.worker.use(hub)

    def claim(self, stream: EventStream) -> None:
        """See `Offer.claim`."""
        if self._offer is None:
            self._offer = GunicornOffer(self.worker, self.environ, self)
        self._offer.claim(stream)

    def has_claimed(self, stream: EventStream) -> bool:
        """See `Offer.has_claimed`."""
        return self._offer is not None and self._offer.has_claimed(stream)

    @property
    def claimed_by(self) -> EventStream | None:
        """The stream that has the connection, if there is one."""
        return None if self._offer is None else self._offer.stream

    def send_early_hints(self, headers: list[tuple[str, str]]) -> None:
        """What an environ has as ``wsgi.early_hints``."""
        if not self.headers_sent:
            _, environ = wsgi.create(self.req, self.sock, "", ("", 0), self.cfg)
            environ["wsgi.early_hints"](headers)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333."""
        if self._head is not None and exc_info and not self.headers_sent:
            # The application has changed its mind (PEP 3333), and what it said first is forgotten.
            self._head, self.headers, self.response_length = None, [], None
        elif self.status is None and self._offer is None and type(status) is str and type(headers) is list:
            plain = format_head(status, headers, _DROPPED)
            if plain is not None:
                self._head, self.response_length = plain
                self.status, self.status_code, self.headers = status, int(status[:3]), headers
                return self.write
        write = super().start_response(status, headers, exc_info)
        if self._offer is not None:
            self._offer.decide()
        return write

    def write(self, arg: bytes) -> None:
        """Send a part of the body, with the head before it if it is the first."""
        if (
            self._head is not None
            and not self.headers_sent
            and type(arg) is bytes
            and len(arg) == self.response_length
            and len(arg) <= _MOST_JOINED
        ):
            self.sock.sendall(self._head + self._end() + arg)
            self.headers_sent = True
            self.sent = len(arg)
        else:
            super().write(arg)

    def send_headers(self) -> None:
        """Send the head, if that was not done."""
        if self._head is None or self.headers_sent:
            super().send_headers()
        else:
            self.sock.sendall(self._head + self._end())
            self.headers_sent = True

    def should_close(self) -> bool:
        """Whether the connection ends with the answer."""
        return bool(self.must_close if self._head is not None else super().should_close())

    def _end(self) -> bytes:
        return _ends(self.version, int(time.time()))[self.must_close]


@lru_cache(1)
def _ends(server: str, second: int) -> tuple[bytes, bytes]:
    """The ends of all heads of one second: of one that keeps its connection, and of one that does not."""
    fields = f"Server: {server}\r\nDate: {util.http_date(second)}\r\nConnection: "
    return f"{fields}keep-alive\r\n\r\n".encode("latin-1"), f"{fields}close\r\n\r\n".encode("latin-1")
