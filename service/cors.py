"""Cross-origin requests: an allow-list of exact origins (Fetch standard, "CORS protocol").

Browsers send ``POST /publish`` with ``application/json`` from another origin only after a preflight, so the list also
decides who may publish from a browser. It is no access control for other clients: these send no ``Origin``.
"""

from __future__ import annotations

import falcon

PREFLIGHT_SECONDS = 7200  # Chromium's own upper bound for remembering a preflight; more has no effect there.
# Last-Event-ID is on no safelist: a client that sets it itself (not EventSource, which needs no leave) must be allowed to.
REQUEST_HEADERS = "Authorization, Content-Type, Last-Event-ID"
EXPOSED_HEADERS = "Content-Location, Location, Retry-After"


class CORS:
    """Falcon middleware. ``origins`` are compared byte by byte; ``credentials`` lets them send cookies."""

    def __init__(self, origins: frozenset[str], *, credentials: bool = False) -> None:
        self._origins = origins
        self._credentials = credentials

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Add the headers to every answer, errors and streams too: without them a browser hides even the status."""
        # Also without an Origin: a shared cache must not give the answer for one origin to another.
        resp.append_header("Vary", "Origin")
        origin = req.get_header("Origin")
        if origin is None or origin not in self._origins:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        if self._credentials:
            resp.set_header("Access-Control-Allow-Credentials", "true")
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            self._answer_preflight(resp)
        else:
            resp.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)

    def _answer_preflight(self, resp: falcon.Response) -> None:
        # Falcon's responder for OPTIONS has put the route's methods into Allow; an unknown path has none.
        allow = resp.get_header("Allow")
        if allow:
            resp.set_header("Access-Control-Allow-Methods", allow)
            resp.set_header("Access-Control-Allow-Headers", REQUEST_HEADERS)
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
