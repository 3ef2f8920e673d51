"""What a WSGI environ (PEP 3333) says of a stream that is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode


def requested_id(environ: Mapping[str, Any]) -> str | None:
    """The id to resume after: of the header Last-Event-ID, or else of the query's ``last_event_id``."""
    # The header first: a browser that reconnects sends it to the very URL that it first opened, old query included.
    header: str | None = environ.get("HTTP_LAST_EVENT_ID")
    if header:
        return header
    values = parse_qs(environ.get("QUERY_STRING", "")).get("last_event_id")
    return values[0] if values else None


def request_key(environ: Mapping[str, Any], subject: str | None) -> str:
    """What two requests for the same thing, by the same one, have in common: method, path and query, without the last id."""
    query = [pair for pair in parse_qsl(environ.get("QUERY_STRING", ""), True) if pair[0] != "last_event_id"]
    parts = (
        environ.get("REQUEST_METHOD", "GET"),
        environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        urlencode(sorted(query)),
        subject or "",
    )
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
