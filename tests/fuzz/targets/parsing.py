"""`EventParser`: any bytes in any pieces give what the standard's algorithm gives, and nothing is raised but its own error."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

from sse_core import Event, EventParser, ParseError, frame
from tests.reference import interpret

from .choices import Choices

BOUND = 32


def run(data: bytes) -> None:
    """Parse in pieces and compare with the reference; frame what came out; then parse within a bound that is hit."""
    choices = Choices(data)
    sizes = [choices.number(64) + 1 for _ in range(choices.number(8))]
    stream = choices.take(choices.left)
    parser = EventParser()
    found: list[Event] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)] if sizes else len(stream)
        found += parser.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    expected = interpret(stream)
    assert found == [Event(**asdict(event)) for event in expected.events], stream
    assert (parser.last_event_id, parser.retry) == (expected.last_event_id, expected.retry), stream
    assert EventParser().feed(b"".join(frame(event) for event in found)) == found, stream
    with contextlib.suppress(ParseError):
        for event in EventParser(max_event_bytes=BOUND).feed(stream):
            # Bytes that are no UTF-8 become longer.
            assert len(str(event.data)) <= BOUND, stream
