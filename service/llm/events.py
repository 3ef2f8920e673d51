"""A generation as the events of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from sse_core import Event

from . import Generation

STARTED = "started"
# A provider may send a whole answer at once, and an event has a bound (max_event_bytes). Each character has at most six
# bytes in JSON.
PIECE = 1024


def events(generation: Generation, run: str, *, provider: str, model: str) -> Generator[Event, None, dict[str, object]]:
    """Yield the events of ``run`` but for the last, and return the members of that, as `Hub.produce` wants them.

    ``provider`` and ``model`` are the names of who answers. Raises what `Generation.tokens` does. Closing it closes that.
    """
    yield Event({"run": run, "provider": provider, "model": model}, event=STARTED)
    with contextlib.closing(generation.tokens()) as tokens:
        while True:
            try:
                token = next(tokens)
            except StopIteration as end:
                members: dict[str, object] = end.value.members()
                return members
            for start in range(0, len(token), PIECE):
                yield Event({"token": token[start : start + PIECE]})
