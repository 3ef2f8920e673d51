import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core.errors import EventError
from sse_core.event import Event
from sse_core.framing import frame
from tests.reference import Dispatched, interpret
from tests.strategies import events, texts

VECTORS = json.loads((Path(__file__).parent / "data" / "frames.json").read_text())
FRAMED = [*VECTORS["both_ways"], *VECTORS["dispatch_nothing"], *VECTORS["framed_only"]]


@pytest.mark.parametrize("case", FRAMED, ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    """Each legal event has exactly one form on the wire."""
    assert frame(Event(**case["event"])) == case["wire"].encode()


class TestId:
    def test_replaces(self) -> None:
        """An id given to frame replaces the event's own."""
        assert frame(Event("x", id="own"), id="given") == b"id: given\ndata: x\n\n"
        assert frame(Event("x"), "given") == b"id: given\ndata: x\n\n"

    def test_none_keeps(self) -> None:
        """Without an id given the event's own is framed."""
        assert frame(Event("x", id="own"), None) == b"id: own\ndata: x\n\n"

    def test_empty(self) -> None:
        """An empty id is one: it makes the client forget what it had."""
        assert frame(Event("x", id="own"), id="") == b"id: \ndata: x\n\n"

    def test_beyond_ascii(self) -> None:
        """An id is any UTF-8."""
        assert frame(Event("x"), id="\xe9") == b"id: \xc3\xa9\ndata: x\n\n"

    @pytest.mark.parametrize("hostile", ["1\n", "1\r", "1\r\ndata: injected", "\0", "\ud800", 7, b"1"])
    def test_checked(self, hostile: Any) -> None:
        """An id given to frame is checked like the event's own."""
        with pytest.raises(EventError, match=r"^id: "):
            frame(Event("x"), id=hostile)


class TestNothing:
    def test_no_field(self) -> None:
        """An event without any field is an error, since its block would be a stray blank line."""
        with pytest.raises(EventError, match="no field at all"):
            frame(Event())

    def test_only_an_id(self) -> None:
        """An event without any field but the given id is the block that moves a client's cursor."""
        assert frame(Event(), id="5-0") == b"id: 5-0\n\n"

    @pytest.mark.parametrize("other", [None, "data: x\n\n", {"data": "x"}])
    def test_no_event(self, other: Any) -> None:
        """Only an Event can be framed."""
        with pytest.raises(TypeError):
            frame(other)


@given(events(with_data=False))
def test_form(event: Event) -> None:
    """A frame is UTF-8 without CR, and its only blank line is its end."""
    framed = frame(event)

    framed.decode()
    assert b"\r" not in framed
    assert framed.index(b"\n\n") == len(framed) - 2


@given(events(with_data=False), st.none() | texts("\r\n\0"))
def test_lines(event: Event, id: str | None) -> None:
    """A frame has one line for event, id and retry each if they are set, one for each line of data, and no other."""
    expected = [f": {line}" for line in event.comment.split("\n")] if event.comment is not None else []
    shown_id = event.id if id is None else id
    for name, value in (("event", event.event), ("id", shown_id), ("retry", event.retry)):
        expected += [] if value is None else [f"{name}: {value}"]
    expected += [f"data: {line}" for line in event.data.split("\n")] if event.data is not None else []

    assert frame(event, id).decode().split("\n") == [*expected, "", ""]


HOSTILE = st.none() | st.lists(
    st.sampled_from(
        ["\r", "\n", "\r\n", "\0", "data: in", "id: in", "event: in", "retry: 1", ":", " ", "\ufeff", "a", "\u2028"]
    ),
    max_size=6,
).map("".join)


@given(data=HOSTILE, event=HOSTILE, id=HOSTILE, comment=HOSTILE)
def test_no_injection(data: str | None, event: str | None, id: str | None, comment: str | None) -> None:
    """Text of any kind in any field is refused or reaches the client as that field and nothing else."""
    legal = event != "" and not set(event or "") & set("\r\n") and not set(id or "") & set("\r\n\0")
    if not legal:
        with pytest.raises(EventError, match=r"^(event|id): "):
            Event(data, event=event, id=id, comment=comment)
        return
    made = Event(data, event=event, id=id, comment=comment)
    if made == Event() and comment is None:
        return

    seen = interpret(frame(made))
    if data is None:
        assert seen.events == []
    else:
        lines = data.replace("\r\n", "\n").replace("\r", "\n")
        assert seen.events == [Dispatched(lines, event, id, None)]
    assert seen.last_event_id == (id or "")
    assert seen.retry is None
