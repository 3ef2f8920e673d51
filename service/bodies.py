"""Reading a small body of a request as a whole, up to a bound."""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from typing import NoReturn, Protocol

import falcon

from .problems import Problem

#: How long a body may take to come, in seconds. Whoever sends none would hold the thread that reads it for ever.
SECONDS = 30.0
# Where a server that can cut off a late client says so (`sse_core.worker`).
ENVIRON = "sse_core.arrivals"


class Arrivals(Protocol):
    """Shuts the receiving side of a connection on which nothing has come in time."""

    def expect(self, key: Hashable, connection: Callable[[], socket.socket], seconds: float) -> None:
        """Begin to count."""

    def arrived(self, key: Hashable) -> bool:
        """Count no more; False if it was too late."""


def read_body(req: falcon.Request, max_bytes: int) -> bytes:
    """Return the body, empty if the request has none. ``max_bytes`` is the setting ``max_body_bytes``.

    Raises 415 for one that is compressed, 413 for one that is longer, which is then not read, 400 for one that ends before
    its Content-Length or whose chunks are malformed, and, where the server can tell, 408 for one that takes too long.
    """
    check_encoding(req)
    length = req.content_length
    if length is None:
        # Chunked: the server's input ends by itself; without either header there is no body at all.
        if not req.env.get("wsgi.input_terminated"):
            return b""
        body = _read(req, max_bytes + 1)
        if len(body) > max_bytes:
            _refuse(max_bytes)
        return body
    if length > max_bytes:
        _refuse(max_bytes)
    body = _read(req, length)
    if len(body) < length:
        raise falcon.HTTPBadRequest(description=f"The body ended after {len(body)} of {length} bytes.")
    return body


def _read(req: falcon.Request, size: int) -> bytes:
    arrivals: Arrivals | None = req.env.get(ENVIRON)
    body: bytes | None = None
    key = object()
    if arrivals is not None:
        arrivals.expect(key, lambda: req.env["gunicorn.socket"], SECONDS)
    try:
        body = req.stream.read(size)
    except Exception:
        # Of the server, which has a class of its own for each way in which chunks or a connection can be broken.
        body = None
    finally:
        is_late = arrivals is not None and not arrivals.arrived(key)
    if is_late:
        raise Problem(408, "too-slow", f"A body must have come within {SECONDS:g} s.")
    if body is None:
        raise falcon.HTTPBadRequest(description="The body broke off, or is not in chunks as it says.")
    return body


def check_encoding(req: falcon.Request) -> None:
    """Raise 415 (RFC 9110, section 15.5.16) for a body that is compressed: its size once unpacked is not told anywhere."""
    coding = req.env.get("HTTP_CONTENT_ENCODING")
    if coding and coding.strip().lower() != "identity":
        raise falcon.HTTPUnsupportedMediaType(
            description="Send the body as it is, without Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )


def _refuse(max_bytes: int) -> NoReturn:
    raise Problem(413, "too-large", f"A body has at most {max_bytes} bytes.", limit="max_body_bytes", value=max_bytes)
