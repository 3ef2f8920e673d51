"""How a request that starts a run is answered: shared by all resources that start one.

A *run* is a topic ``run/{run}`` that something of ours produces, a generation or a job, and that ends. Whoever starts one
either gets to know where it is (202), and listens with an `EventSource`, or gets its stream at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon
import msgspec

from .subscriber import MEDIA_TYPE, Subscriber
from .topics import RUN_PREFIX

if TYPE_CHECKING:
    from sse_core import Producer

JSON = "application/json"


def check_accept(req: falcon.Request) -> str:
    """Return the media type of the answer to a request that starts a run: JSON, or the stream where that is preferred.

    To be called before anything is started: raises 406 for a request that accepts neither.
    """
    preferred = req.client_prefers((JSON, MEDIA_TYPE))
    if preferred is None:
        raise falcon.HTTPNotAcceptable(
            description=f"The answer is {JSON}, or with Accept: {MEDIA_TYPE} the stream itself."
        )
    return preferred


def place_of(req: falcon.Request, run: str) -> str:
    """Return the path of a run's stream, on the server that ``req`` came to."""
    return f"{req.root_path}/runs/{run}"


def accept_run(req: falcon.Request, resp: falcon.Response, producer: Producer, subscriber: Subscriber) -> None:
    """Answer with a run that was just started, on ``subscriber``'s hub.

    202 with the run's places as JSON and its stream as ``Location``; or, if the request prefers text/event-stream, 200 and
    that stream from its first event on, with ``Content-Location`` for whoever has to come back.
    """
    place = place_of(req, producer.run)
    if check_accept(req) == MEDIA_TYPE:
        # Before the stream: a process without room for it sends the client away, and the run goes on without it.
        resp.set_header("Content-Location", place)
        subscriber.subscribe(req, resp, [RUN_PREFIX + producer.run])
        return
    resp.status = falcon.HTTP_202
    resp.set_header("Location", place)
    resp.set_header("Cache-Control", "no-store")
    resp.content_type = JSON
    resp.data = msgspec.json.encode({"run": producer.run, "events": place, "stop": place + "/stop"})
