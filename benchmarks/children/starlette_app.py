"""The application of sse-starlette that is measured: ``uvicorn benchmarks.children.starlette_app:app``.

A queue for each stream, as its documents and those of FastAPI show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_queues: set[asyncio.Queue[str]] = set()


async def events(_: Request) -> EventSourceResponse:
    """Stream whatever is published from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    _queues.add(queue)

    async def generate() -> AsyncIterator[ServerSentEvent]:
        try:
            while True:
                yield ServerSentEvent(await queue.get(), sep="\n")
        finally:
            _queues.discard(queue)

    return EventSourceResponse(generate(), sep="\n")


async def publish(request: Request) -> Response:
    """Publish the body."""
    data = (await request.body()).decode()
    for queue in _queues:
        queue.put_nowait(data)
    return Response(status_code=204)


async def healthz(_: Request) -> Response:
    """Answer."""
    return Response()


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/publish", publish, methods=["POST"]),
        Route("/healthz", healthz),
    ]
)
