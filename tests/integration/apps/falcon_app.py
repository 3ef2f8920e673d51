"""The routes in Falcon."""

from __future__ import annotations

import falcon

from tests.integration.apps import common


class Events:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        stream = common.hub.subscribe(common.topics(req.query_string), environ=req.env)
        resp.set_headers(stream.headers + common.head())
        resp.stream = stream

    on_head = on_get


class Publish:
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = common.publish(req.query_string)


class Stats:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = common.stats()


class Plain:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "plain\n"


application = falcon.App()
application.add_route("/events", Events())
application.add_route("/publish", Publish())
application.add_route("/stats", Stats())
application.add_route("/plain", Plain())
