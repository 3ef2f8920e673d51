"""Flask: `gunicorn -k sse_core.worker.EventWorker --threads 4 examples.flask_app:app`, then http://127.0.0.1:8000/"""

from pathlib import Path

from flask import Flask, Response, request

from sse_core import EventError, Hub

PAGE = Path(__file__).with_name("page.html").read_text()

app = Flask(__name__)
hub = Hub()


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/events")
def events() -> Response:
    # With the environ the hub finds the id to resume after, and sees that a HEAD request gets no body.
    stream = hub.subscribe("news", environ=request.environ)
    return Response(stream, headers=stream.headers)


@app.post("/publish")
def publish() -> str:
    return hub.publish("news", request.get_data()).id


@app.errorhandler(EventError)
def refuse(error: EventError) -> tuple[str, int]:
    return str(error), 400
