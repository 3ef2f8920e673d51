"""One name for a request in nginx's log, in ours, and with whoever asked: the header ``X-Request-ID``.

nginx sends its own. Without it, or with one that is not well-formed, the request gets one here: a name that somebody
else chose ends in our log, so it is short and has no character that means anything there.
"""

from __future__ import annotations

import re
import secrets

import falcon
import structlog

HEADER = "X-Request-ID"
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")


class RequestID:
    """Falcon middleware: names each request, in our log too, and answers with that name. The first of all, for all answers."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Note the name for `request_id_of` and for every line that is logged on the way."""
        given = req.get_header(HEADER) or ""
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        req.context.request_id = request_id
        resp.set_header(HEADER, request_id)
        # The thread had another request before.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)


def request_id_of(req: falcon.Request) -> str | None:
    """Return the name of a request; None where the middleware is not part of the application."""
    request_id: str | None = req.context.get("request_id")
    return request_id
