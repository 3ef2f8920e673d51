"""Falcon: `gunicorn -k sse_core.worker.EventWorker --threads 4 examples.falcon_app:app`, then http://127.0.0.1:8000/"""

from pathlib import Path

import falcon

from sse_core import EventError, Hub

PAGE = Path(__file__).with_name("page.html").read_text()

hub = Hub()


class Page:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.text = PAGE


class Events:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # With the environ the hub finds the id to resume after, and sees that a HEAD request gets no body.
        stream = hub.subscribe("news", environ=req.env)
        resp.set_headers(stream.headers)
        resp.stream = stream

    on_head = on_get


class Publish:
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        try:
            resp.text = hub.publish("news", req.bounded_stream.read()).id
        except EventError as error:
            raise falcon.HTTPBadRequest(description=str(error)) from None


app = falcon.App()
app.add_route("/", Page())
app.add_route("/events", Events())
app.add_route("/publish", Publish())
