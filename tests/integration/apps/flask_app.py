"""The routes in Flask."""

from __future__ import annotations

from flask import Flask, Response, request

from tests.integration.apps import common

application = Flask(__name__)


@application.get("/events")
def events() -> Response:
    stream = common.hub.subscribe(common.topics(request.query_string.decode()), environ=request.environ)
    return Response(stream, headers=stream.headers + common.head())


@application.post("/publish")
def publish() -> Response:
    return Response(common.publish(request.query_string.decode()))


@application.get("/stats")
def stats() -> Response:
    return Response(common.stats())


@application.get("/plain")
def plain() -> str:
    return "plain\n"
