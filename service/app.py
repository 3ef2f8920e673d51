"""`create_app`: what the service is made of, and all of its routes in one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import falcon
import structlog

from sse_core import Hub

from . import problems
from .cors import CORS
from .hub import create_hub
from .logging import configure
from .metrics import create_registry
from .resources.health import LivenessResource, ReadinessResource
from .resources.logs import LogResource
from .resources.metrics import MetricsResource
from .resources.openapi import OpenAPIResource
from .resources.page import PageResource
from .resources.publish import PublishResource
from .resources.stream import StreamResource
from .settings import Settings
from .stats import StatsPublisher
from .subscriber import Subscriber
from .tailer import Tailer
from .topics import LOG_PREFIX, STATS_TOPIC, Sources

_FOLDER = Path(__file__).parent.resolve()
STATIC = _FOLDER / "static"
OPENAPI = _FOLDER / "openapi.json"


def create_app(settings: Settings | None = None, *, hub: Hub | None = None) -> falcon.App[Any, Any]:
    """Return the WSGI application of one process.

    Without ``settings`` they are read from the environment. ``hub`` replaces the one that the settings describe. Nothing
    is started here: the hub, the tailers and the publisher of counters start with the first request that needs them, and
    so after a fork.
    """
    settings = settings or Settings()
    if not structlog.is_configured():
        configure(settings)
    hub = hub or create_hub(settings)
    tailers = {LOG_PREFIX + name: Tailer(name, path, hub, settings) for name, path in settings.logs.items()}
    sources = Sources({STATS_TOPIC: StatsPublisher(hub, interval=settings.stats_interval), **tailers})
    subscriber = Subscriber(hub, sources, retry=settings.drain_retry)
    page = PageResource(STATIC)

    app: falcon.App[Any, Any] = falcon.App(
        middleware=[CORS(frozenset(settings.cors_origins), credentials=settings.cors_credentials)]
        if settings.cors_origins
        else None
    )
    problems.install(app)

    app.add_route("/events", StreamResource(subscriber))
    app.add_route("/logs/{name}", LogResource(subscriber))
    app.add_route(
        "/publish",
        PublishResource(hub, max_body_bytes=settings.max_body_bytes, max_batch_events=settings.max_batch_events),
    )
    app.add_route("/healthz", LivenessResource(hub))
    app.add_route("/readyz", ReadinessResource(hub))
    app.add_route("/metrics", MetricsResource(create_registry(hub, list(tailers.values()))))
    app.add_route("/openapi.json", OpenAPIResource(OPENAPI))
    app.add_route("/", page)
    app.add_route("/static/{path:path}", page)
    return app
