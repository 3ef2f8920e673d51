"""``/metrics``: the counters in the text format of Prometheus."""

from __future__ import annotations

import falcon
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest


class MetricsResource:
    """Answers with all that ``registry`` collects at that moment."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Collect and answer."""
        resp.data = generate_latest(self._registry)
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get
