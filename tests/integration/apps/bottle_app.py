"""The routes in Bottle."""

from __future__ import annotations

import bottle

from sse_core import EventStream
from tests.integration.apps import common

application = bottle.Bottle()


@application.get("/events")
def events() -> EventStream:
    stream = common.hub.subscribe(common.topics(bottle.request.query_string), environ=bottle.request.environ)
    for name, value in stream.headers + common.head():
        bottle.response.set_header(name, value)
    return stream


@application.post("/publish")
def publish() -> bytes:
    return common.publish(bottle.request.query_string)


@application.get("/stats")
def stats() -> bytes:
    return common.stats()


@application.get("/plain")
def plain() -> str:
    return "plain\n"
