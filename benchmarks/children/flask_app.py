"""The application of flask-sse that is measured: ``gunicorn -k gevent "benchmarks.children.flask_app:create(URL)"``."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context
from flask_sse import sse


def create(redis_url: str) -> Flask:
    """Return an application with ``/events``, ``/publish`` (the body is the event's data) and ``/healthz``."""
    app = Flask(__name__)
    app.config["REDIS_URL"] = redis_url

    @app.get("/events")
    def events() -> Response:
        def generate() -> Iterator[str]:
            # All that flask-sse's own view does not do. Without it the response begins with the first event: until then
            # no client knows that it is connected.
            yield ":\n\n"
            for message in sse.messages():
                yield str(message)

        return Response(stream_with_context(generate()), mimetype="text/event-stream")

    @app.post("/publish")
    def publish() -> tuple[str, int]:
        sse.publish(request.get_data(as_text=True))
        return "", 204

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
