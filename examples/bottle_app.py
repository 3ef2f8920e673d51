"""Bottle: `gunicorn -k sse_core.worker.EventWorker --threads 4 examples.bottle_app:app`, then http://127.0.0.1:8000/"""

from pathlib import Path

from bottle import Bottle, HTTPResponse, request, response

from sse_core import EventError, EventStream, Hub

PAGE = Path(__file__).with_name("page.html").read_text()

app = Bottle()
hub = Hub()


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/events")
def events() -> EventStream:
    # With the environ the hub finds the id to resume after, and sees that a HEAD request gets no body.
    stream = hub.subscribe("news", environ=request.environ)
    for name, value in stream.headers:
        response.set_header(name, value)
    return stream


@app.post("/publish")
def publish() -> str:
    try:
        return hub.publish("news", request.body.read()).id
    except EventError as error:
        raise HTTPResponse(str(error), status=400) from None
