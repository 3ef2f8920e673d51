"""One name for a request in nginx's log, in ours, and with whoever asked: the header ``X-Request-ID``.

nginx sends its own. Without it, or with one that is not well-formed, the request gets one here: a name that somebody
else chose ends in our log, so it is short and has no character that means anything there.
"""

from __future__ import annotations

import random
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import falcon

HEADER = "X-Request-ID"
_ENVIRON = "HTTP_X_REQUEST_ID"
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")

# PERF: structlog's own variables of a context cost each publish as much as finding its route.
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestID:
    """Falcon middleware: names each request, in our log too, and answers with that name. The first of all, for all answers."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Note the name for `request_id_of` and for every line that is logged on the way."""
        given: str = req.env.get(_ENVIRON, "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        req.context.request_id = request_id
        resp.set_header(HEADER, request_id)
        # For `add_request_id`. It stays until the thread's next request, and belongs to all that this one's still writes.
        _current.set(request_id)


def add_request_id(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog's: the name of the request that is being answered, if there is one and it is not in there."""
    request_id = _current.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def request_id_of(req: falcon.Request) -> str | None:
    """Return the name of a request; None where the middleware is not part of the application."""
    request_id: str | None = req.context.get("request_id")
    return request_id
