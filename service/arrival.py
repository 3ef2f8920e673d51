"""What arrived here of a request: told to ``sse-kit doctor``, which knows what was sent.

In a field of the answer's head, because that is the first thing that a stream sends, and bounded, because proxies bound heads.
"""

from __future__ import annotations

import secrets
from typing import Any

import falcon
import msgspec

HEADER = "Sse-Kit-Arrived"
#: Fields whose values are told.
TOLD = ("Last-Event-ID", "Accept-Encoding", "Via")
#: Fields by which proxies are recognized; their values may name who asks, or machines behind us, and are nobody's business.
NAMED = (
    "Akamai-Origin-Hop",
    "CF-Connecting-IP",
    "CF-Ray",
    "Fastly-Client-IP",
    "Fastly-FF",
    "X-Amz-Cf-Id",
    "X-Amzn-Trace-Id",
    "X-Envoy-Expected-Rq-Timeout-Ms",
    "X-Envoy-External-Address",
    "X-Forwarded-For",
    "X-Varnish",
)
MOST_CHARACTERS = 200


def arrival(req: falcon.Request, *, keepalive: float) -> str:
    """Return the value of the field. ``keepalive`` is the longest silence of a stream, in seconds."""
    values = ((name, req.get_header(name)) for name in TOLD)
    document: dict[str, Any] = {
        # Of this answer alone: one that comes twice was kept by somebody.
        "visit": secrets.token_hex(8),
        "protocol": req.env.get("SERVER_PROTOCOL", ""),
        "keepalive": keepalive,
        "headers": {name.lower(): value[:MOST_CHARACTERS] for name, value in values if value is not None},
        "named": [name.lower() for name in NAMED if req.get_header(name) is not None],
    }
    text = msgspec.json.encode(document).decode()
    # A field has only ASCII; JSON can say the rest with it.
    return "".join(char if 32 <= ord(char) < 127 else f"\\u{min(ord(char), 0xFFFD):04x}" for char in text)
