"""``/openapi.json``: what this service answers to, as an OpenAPI 3.1 document."""

from __future__ import annotations

from pathlib import Path

import falcon


class OpenAPIResource:
    """Serves the document that is kept beside the code, as it is."""

    def __init__(self, document: Path) -> None:
        self._document = document.read_bytes()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the document."""
        resp.data = self._document
        resp.set_header("Cache-Control", "no-cache")

    on_head = on_get
