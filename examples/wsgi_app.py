"""Plain WSGI: `gunicorn -k sse_core.worker.EventWorker --threads 4 examples.wsgi_app:app`, then http://127.0.0.1:8000/"""

from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from sse_core import EventError, Hub

PAGE = Path(__file__).with_name("page.html").read_bytes()
TEXT = [("Content-Type", "text/plain; charset=utf-8")]

hub = Hub()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":
            start_response("200 OK", [("Content-Type", "text/html")])
            return [PAGE]
        case "GET" | "HEAD", "/events":
            # With the environ the hub finds the id to resume after, and sees that a HEAD request gets no body.
            stream = hub.subscribe("news", environ=environ)
            start_response("200 OK", stream.headers)
            return stream
        case "POST", "/publish":
            try:
                receipt = hub.publish("news", environ["wsgi.input"].read())
            except EventError as error:
                start_response("400 Bad Request", TEXT)
                return [str(error).encode()]
            start_response("200 OK", TEXT)
            return [receipt.id.encode()]
    start_response("404 Not Found", TEXT)
    return []
