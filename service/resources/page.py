"""``/`` and ``/static/...``: the page, which shows a server's streams in a browser."""

from __future__ import annotations

import io
from pathlib import Path

import falcon
from falcon.routing import StaticRoute

# Everything the page loads is a file of /static and everything it calls is this server.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)


class PageResource:
    """Serves the files of ``directory`` under ``/static/`` and its ``index.html`` as ``/``.

    Falcon's `StaticRoute` finds and opens the file (safe paths, ETag, ranges); this adds what it leaves out: headers, 405
    for methods that change things, and the close of a file that a HEAD does not read.
    """

    def __init__(self, directory: Path) -> None:
        self._index = StaticRoute("/", directory, fallback_filename="index.html")
        self._files = StaticRoute("/static", directory)

    def on_get(self, req: falcon.Request, resp: falcon.Response, path: str | None = None) -> None:
        """Serve the page, or the file ``path`` of it."""
        (self._index if path is None else self._files)(req, resp)
        # Revalidated each time, which costs a 304: a new release is seen at once, and old script never meets new markup.
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")
        if req.method == "HEAD" and isinstance(resp.stream, io.IOBase):
            resp.stream.close()

    on_head = on_get
