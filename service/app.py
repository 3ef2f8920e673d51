"""`create_app`: what the service is made of, and all of its routes in one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import falcon
import structlog
from prometheus_client import CollectorRegistry

from . import problems
from .auth import METRICS_ROUTE, Gate
from .backplane import DEFAULT_NAMESPACE, describe
from .cors import CORS
from .credentials import QueryTokenRequest
from .identities import create_authenticator, create_tokens
from .jobs import Jobs
from .llm.providers import Providers
from .logging import configure
from .metrics import create_registry
from .names import TopicNames
from .namespaces import Namespaces
from .request_id import RequestID
from .resources.demo import CounterResource, EchoResource, TickerResource
from .resources.doctor import DoctorResource
from .resources.generate import GenerateResource
from .resources.health import LivenessResource, ReadinessResource
from .resources.jobs import JobsResource
from .resources.logs import LogResource
from .resources.metrics import MetricsResource
from .resources.openapi import OpenAPIResource
from .resources.page import PageResource
from .resources.publish import PublishResource
from .resources.revocations import RevocationsResource
from .resources.runs import RunResource, StopResource
from .resources.session import SessionResource
from .resources.stream import StreamResource
from .resources.topics import TopicResource, TopicsResource
from .resources.watch import WatchResource
from .revocations import Revocations
from .settings import Settings
from .uploads import Uploads

_FOLDER = Path(__file__).parent.resolve()
STATIC = _FOLDER / "static"
OPENAPI = _FOLDER / "openapi.json"


def create_app(
    settings: Settings | None = None,
    *,
    namespaces: Namespaces | None = None,
    registry: CollectorRegistry | None = None,
) -> falcon.App[Any, Any]:
    """Return the WSGI application of one process.

    Without ``settings`` they are read from the environment. ``namespaces`` replaces those that the settings describe, and
    ``registry`` the metrics of this process alone.
    Nothing is started here: hubs, tailers and the publisher of counters start with the first request that needs them, and
    so after a fork.
    """
    settings = settings or Settings()
    if not structlog.is_configured():
        configure(settings)
    namespaces = namespaces or Namespaces(settings)
    page = PageResource(STATIC)

    origins = frozenset(settings.cors_origins)
    tokens = create_tokens(settings)
    authenticator = create_authenticator(settings, tokens)
    revocations = Revocations(namespaces, most=settings.max_revocations)

    app: falcon.App[Any, Any] = falcon.App(
        request_type=QueryTokenRequest if settings.query_token and authenticator else falcon.Request
    )
    app.add_middleware(RequestID())
    if origins:
        app.add_middleware(CORS(origins, credentials=settings.cors_credentials))
    if authenticator:
        closed = () if settings.metrics_open else (METRICS_ROUTE,)
        app.add_middleware(Gate(authenticator, revocations, retry=settings.drain_retry, closed=closed))
    problems.install(app, reached=namespaces.reached.count)

    stream = StreamResource(namespaces, doctor=settings.keepalive if settings.doctor else None)
    doctor = DoctorResource(namespaces, is_open=settings.doctor)
    publish = PublishResource(
        namespaces,
        max_body_bytes=settings.max_body_bytes,
        max_batch_events=settings.max_batch_events,
        names=TopicNames(settings.max_topic_bytes, settings.topic_characters),
    )
    topics, topic = TopicsResource(namespaces), TopicResource(namespaces)
    # The first for the default namespace, the second for all of them.
    for prefix in ("", "/n/{namespace}"):
        app.add_route(prefix + "/events", stream)
        app.add_route(prefix + "/publish", publish)
        app.add_route(prefix + "/doctor/{probe}", doctor)
        app.add_route(prefix + "/topics", topics)
        app.add_route(prefix + "/topics/{topic:path}", topic)
    app.add_route("/logs/{name}", LogResource(namespaces))
    app.add_route("/watch/{key:path}", WatchResource(namespaces))
    app.add_route("/demo/ticker", TickerResource(namespaces, settings))
    app.add_route("/demo/echo", EchoResource(namespaces, settings))
    app.add_route("/demo/counter", CounterResource(namespaces))
    server = namespaces.find(DEFAULT_NAMESPACE)
    app.add_route(
        "/jobs", JobsResource(Jobs(server.hub, settings), Uploads(settings), server.subscriber, namespaces.clients)
    )
    app.add_route("/session", SessionResource(tokens, authenticator, max_body_bytes=settings.max_body_bytes))
    app.add_route("/revocations", RevocationsResource(revocations, max_body_bytes=settings.max_body_bytes))
    generate = GenerateResource(
        namespaces,
        Providers(settings),
        max_body_bytes=settings.max_body_bytes,
        max_prompt_bytes=settings.max_prompt_bytes,
        abandon_after=settings.llm_abandon_after,
        origins=origins,
    )
    app.add_route("/generate", generate)
    app.add_route("/runs/{run}", RunResource(namespaces))
    app.add_route("/runs/{run}/stop", StopResource(namespaces))
    app.add_route("/healthz", LivenessResource(namespaces))
    app.add_route("/readyz", ReadinessResource(namespaces, backplane=describe(settings.backplane.get_secret_value())))
    app.add_route("/metrics", MetricsResource(registry or create_registry(namespaces)))
    app.add_route("/openapi.json", OpenAPIResource(OPENAPI))
    app.add_route("/", page)
    app.add_route("/static/{path:path}", page)
    return app
