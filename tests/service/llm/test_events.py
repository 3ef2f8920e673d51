from __future__ import annotations

from collections.abc import Generator

import pytest

from sse_core import Event
from sse_kit.llm import Finish
from sse_kit.llm.events import events


class Written:
    """A generation that is known beforehand."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens
        self.is_closed = False

    def tokens(self) -> Generator[str, None, Finish]:
        try:
            yield from self._tokens
            return Finish("stop", 3, 4)
        finally:
            self.is_closed = True

    def abort(self) -> None:
        """There is nothing to wake."""


def test_events_of_an_answer() -> None:
    """First what answers, then its tokens, and at last what the end is made of."""
    found = events(Written("Be", "cause"), "r-1", provider="p", model="m")

    assert [next(found) for _ in range(3)] == [
        Event('{"run":"r-1","provider":"p","model":"m"}', event="started"),
        Event('{"token":"Be"}'),
        Event('{"token":"cause"}'),
    ]
    with pytest.raises(StopIteration) as end:
        next(found)
    assert end.value.value == {"finish_reason": "stop", "usage": {"input_tokens": 3, "output_tokens": 4}}


def test_a_token_without_measure() -> None:
    """A provider that sends everything at once sends several events, none of them too large."""
    text = "\x00" * 5000
    found = list(events(Written(text), "r", provider="p", model="m"))[1:]

    assert "".join(event.data.count("\\u0000") * "\x00" for event in found if event.data) == text
    assert max(len(event.data or "") for event in found) < 10_000


def test_closing_it_closes_the_generation() -> None:
    """A run that is stopped leaves no generation half open."""
    generation = Written("Be", "cause")
    found = events(generation, "r", provider="p", model="m")
    next(found)
    next(found)
    found.close()

    assert generation.is_closed
