"""gunicorn's side of a claim: what it knows of the request that a thread serves, and whether a stream may have its connection.

The other side, and what an offer is to it, is in `sse_core.claim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sse_core.errors import ConfigurationError
from sse_core.http import Request

if TYPE_CHECKING:
    from sse_core.hub import Hub
    from sse_core.stream import EventStream
    from sse_core.worker import EventWorker


class GunicornOffer:
    """The offer for one request: what gunicorn knows of it, and the stream that claims its connection, if any."""

    def __init__(self, worker: EventWorker, environ: Mapping[str, Any], response: Any) -> None:
        self.environ = environ
        #: As the server has made it, for the requests that follow on the connection; None if that is not to be.
        self.made: dict[str, Any] | None = None
        self._worker = worker
        self._response = response
        self.stream: EventStream | None = None

    def use(self, hub: Hub) -> None:
        """Tell the worker."""
        self._worker.use(hub)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """What the application is given as its ``start_response``."""
        write = self._response.start_response(status, headers, exc_info)
        if self.environ.get("HTTP_VERSION") != "2" and _is_unread(self._response.req):
            # gunicorn would promise to keep the connection and close it all the same when it finds too much to skip. A
            # proxy that has sent everything believes it, and its next request meets the close: 502, for somebody else.
            self._response.force_close()
        # Bottle takes the first chunk before it starts the response; and a middleware may replace a stream by an error.
        self.decide()
        return write

    def claim(self, stream: EventStream) -> None:
        """Take the first stream, for now if nothing is decided yet."""
        if self.stream is None:
            self.stream = stream
            if self._response.status is not None:
                self._check_body()
                self.decide()

    def has_claimed(self, stream: EventStream) -> bool:
        """Whether it is the stream that goes on with the connection."""
        if self._response.status is None:
            raise ConfigurationError("the body of a stream is collected before its response is started: it has no end")
        self._check_body()
        return self.stream is stream

    def _check_body(self) -> None:
        # gunicorn drops what it must not send, and would never notice that the client has left: a thread lost for ever.
        response = self._response
        if response.response_length is not None:
            raise ConfigurationError("a stream has no Content-Length: take it out of the response's header")
        if response.status_code in (204, 304) or (response.status_code or 200) < 200:
            raise ConfigurationError(f"a response with status {response.status_code} has no body, and so no stream")

    def decide(self) -> None:
        """The response was started: see whether its connection can be handed over."""
        if self.stream is None:
            return
        response = self._response
        if (
            response.status_code != 200
            or response.headers_sent
            or response.response_length is not None
            or self.environ["REQUEST_METHOD"] == "HEAD"
            # HTTP/2 frames and TLS records are made by gunicorn: there is no plain socket to hand over.
            or self.environ.get("HTTP_VERSION") == "2"
            or response.req.version[0] != 1
            or response.cfg.is_ssl
            or getattr(response.cfg, "protocol", "http") == "uwsgi"
            or any(name.lower() in ("content-encoding", "transfer-encoding") for name, _ in response.headers)
        ):
            self.stream = None
            return
        # The body ends with the connection: no chunk may be framed, and no request can follow.
        response.chunked = False
        response.force_close()


def _is_unread(request: Any) -> bool:
    """Whether something of a request's body may still be on its way."""
    if type(request) is Request:
        return False
    reader = getattr(request.body, "reader", None)
    # Of a body with a length what is left of it; chunks have a parser until the last one was read.
    left: int | None = getattr(reader, "length", None)
    return left > 0 if left is not None else getattr(reader, "parser", None) is not None
