"""A small application of flask-sse. The tests run it as it stands here, and with the line that imports `sse` changed."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Iterator

from flask import Flask, Response, abort, request, stream_with_context
from flask_sse import sse

#: Data that no client can send as JSON.
ODD = {
    "date": datetime.date(2024, 2, 29),
    "dates": [datetime.date(2024, 2, 29)],
    "uuid": uuid.UUID(int=7),
    "tuple": (1, "two", None),
    "keys": {10: "ten", 9: "nine", 1: "one"},
    "nan": float("nan"),
}


@sse.before_request
def check_access() -> None:
    if request.args.get("channel") == "secret":
        abort(403)


def create_app(url: str) -> Flask:
    app = Flask(__name__)
    app.config["REDIS_URL"] = url
    app.register_blueprint(sse, url_prefix="/stream")

    @app.post("/publish")
    def publish() -> str:
        sse.publish(**request.get_json())
        return "published"

    @app.post("/publish/<name>")
    def publish_odd(name: str) -> str:
        sse.publish(ODD[name], type=name, channel="odd")
        return "published"

    @app.get("/mirror")
    def mirror() -> Response:
        """A view of the application's own."""

        def generate() -> Iterator[str]:
            for message in sse.messages(channel=request.args["channel"]):
                yield str(message)

        return Response(stream_with_context(generate()), mimetype="text/event-stream")

    @app.after_request
    def name_worker(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    return app
