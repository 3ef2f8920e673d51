"""A long job with a progress bar, a cancel button and a page that may be loaded again, in Flask.

`gunicorn -k sse_core.worker.EventWorker --threads 4 examples.progress_flask:app`, then http://127.0.0.1:8000/

The job runs on a thread of its own, whether anybody listens or not.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, request

from sse_core import Hub, ProgressMeter

STEPS = 100
PAGE = Path(__file__).with_name("progress.html").read_text()

app = Flask(__name__)
hub = Hub()


@app.get("/")
def page() -> str:
    return PAGE


@app.post("/jobs")
def start() -> tuple[dict[str, str], int]:
    # Never abandoned: it shall be done though the one who wants it has gone home.
    job = hub.produce(work, abandon_after=None)
    return {"job": job.run}, 202


@app.get("/jobs/<job>")
def events(job: str) -> Response:
    if hub.production(f"run/{job}") is None:
        abort(404)
    stream = hub.subscribe(f"run/{job}", environ=request.environ)
    return Response(stream, status=stream.status, headers=stream.headers)


@app.post("/jobs/<job>/cancel")
def cancel(job: str) -> dict[str, bool]:
    return {"cancelled": hub.stop(f"run/{job}")}


def work() -> Iterator[Any]:
    meter = ProgressMeter(STEPS, unit="step")
    for _ in range(STEPS):
        time.sleep(0.02)  # What takes so long.
        # At most ten events a second, however fast the steps are.
        if event := meter.update():
            yield event
    yield meter.last()
    return {"answer": 42}
