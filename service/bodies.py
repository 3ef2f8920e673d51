"""Reading a small body of a request as a whole, up to a bound."""

from __future__ import annotations

from typing import NoReturn

import falcon

from .problems import Problem


def read_body(req: falcon.Request, max_bytes: int) -> bytes:
    """Return the body, empty if the request has none. ``max_bytes`` is the setting ``max_body_bytes``.

    Raises 413 for a body that is longer, which is then not read, and 400 for one that ends before its Content-Length.
    """
    length = req.content_length
    if length is None:
        # Chunked: the server's input ends by itself; without either header there is no body at all.
        if not req.env.get("wsgi.input_terminated"):
            return b""
        body: bytes = req.stream.read(max_bytes + 1)
        if len(body) > max_bytes:
            _refuse(max_bytes)
        return body
    if length > max_bytes:
        _refuse(max_bytes)
    body = req.stream.read(length)
    if len(body) < length:
        raise falcon.HTTPBadRequest(description=f"The body ended after {len(body)} of {length} bytes.")
    return body


def _refuse(max_bytes: int) -> NoReturn:
    raise Problem(413, "too-large", f"A body has at most {max_bytes} bytes.", limit="max_body_bytes", value=max_bytes)
