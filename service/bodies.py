"""Reading a small body of a request as a whole, up to a bound."""

from __future__ import annotations

from typing import NoReturn

import falcon

from .problems import Problem


def read_body(req: falcon.Request, max_bytes: int) -> bytes:
    """Return the body, empty if the request has none. ``max_bytes`` is the setting ``max_body_bytes``.

    Raises 415 for one that is compressed, 413 for one that is longer, which is then not read, and 400 for one that ends before
    its Content-Length.
    """
    check_encoding(req)
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


def check_encoding(req: falcon.Request) -> None:
    """Raise 415 (RFC 9110, section 15.5.16) for a body that is compressed: its size once unpacked is not told anywhere."""
    coding = req.env.get("HTTP_CONTENT_ENCODING")
    if coding and coding.strip().lower() != "identity":
        raise falcon.HTTPUnsupportedMediaType(
            description="Send the body as it is, without Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )


def _refuse(max_bytes: int) -> NoReturn:
    raise Problem(413, "too-large", f"A body has at most {max_bytes} bytes.", limit="max_body_bytes", value=max_bytes)
