import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core.errors import ConfigurationError, ParseError
from sse_core.event import Event
from sse_core.framing import frame
from sse_core.parsing import EventParser
from tests.reference import interpret
from tests.strategies import cuts, events, streams

VECTORS = json.loads((Path(__file__).parent / "data" / "frames.json").read_text())
PARSED = [
    *VECTORS["parsed_only"],
    *(
        {
            "name": f"framed: {case['name']}",
            "wire": case["wire"],
            "events": [case["event"]],
            "last_event_id": case["event"].get("id", ""),
            "retry": case["event"].get("retry"),
        }
        for case in VECTORS["both_ways"]
    ),
]


def wire_of(case: dict[str, Any]) -> bytes:
    """The vector's bytes, which are given as text or, if they are no UTF-8, as hexadecimal digits."""
    return bytes.fromhex(case["wire_hex"]) if "wire_hex" in case else case["wire"].encode()


def feed_all(parser: EventParser, chunks: list[bytes]) -> list[Event]:
    """All events that the chunks complete."""
    return [event for chunk in chunks for event in parser.feed(chunk)]


def single_bytes(stream: bytes) -> list[bytes]:
    """The stream cut wherever it can be."""
    return [stream[at : at + 1] for at in range(len(stream))]


class TestVectors:
    @pytest.mark.parametrize("case", PARSED, ids=lambda case: case["name"])
    @pytest.mark.parametrize("cut", [lambda stream: [stream], single_bytes], ids=["whole", "byte by byte"])
    def test_parser(self, case: dict[str, Any], cut: Any) -> None:
        """A stream means what the standard says, in one piece or byte by byte."""
        parser = EventParser()

        found = feed_all(parser, cut(wire_of(case)))

        assert found == [Event(**event) for event in case["events"]]
        assert parser.last_event_id == case["last_event_id"]
        assert parser.retry == case["retry"]

    @pytest.mark.parametrize("case", PARSED, ids=lambda case: case["name"])
    def test_reference(self, case: dict[str, Any]) -> None:
        """The plain reference that the parser is compared with agrees with the vectors itself."""
        seen = interpret(wire_of(case))

        assert [Event(**asdict(event)) for event in seen.events] == [Event(**event) for event in case["events"]]
        assert seen.last_event_id == case["last_event_id"]
        assert seen.retry == case["retry"]

    @pytest.mark.parametrize("case", VECTORS["dispatch_nothing"], ids=lambda case: case["name"])
    def test_no_data_no_event(self, case: dict[str, Any]) -> None:
        """A block without data dispatches nothing, but its id and retry count."""
        parser = EventParser()

        assert parser.feed(case["wire"].encode()) == []
        assert parser.last_event_id == case["event"].get("id", "")
        assert parser.retry == case["event"].get("retry")


class TestProperties:
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        """Whatever is framed is parsed as the same events, however the bytes are cut."""
        sent = data.draw(st.lists(events(), max_size=4))
        chunks = data.draw(cuts(b"".join(frame(event) for event in sent)))

        assert feed_all(EventParser(), chunks) == sent

    @given(st.data())
    def test_blocks_without_data(self, data: st.DataObject) -> None:
        """Blocks without data between events take nothing from them and add nothing."""
        sent = data.draw(st.lists(events(with_data=False), max_size=6))
        chunks = data.draw(cuts(b"".join(frame(event) for event in sent)))
        parser = EventParser()

        assert feed_all(parser, chunks) == [event for event in sent if event.data is not None]
        assert parser.last_event_id == next((event.id for event in reversed(sent) if event.id is not None), "")
        assert parser.retry == next((event.retry for event in reversed(sent) if event.retry is not None), None)

    @given(st.data())
    def test_reference(self, data: st.DataObject) -> None:
        """On any bytes in any chunks the parser agrees with a plain reading of the standard."""
        stream = data.draw(streams())
        chunks = data.draw(cuts(stream))
        parser = EventParser()

        found = feed_all(parser, chunks)

        expected = interpret(stream)
        assert found == [Event(**asdict(event)) for event in expected.events]
        assert parser.last_event_id == expected.last_event_id
        assert parser.retry == expected.retry

    @given(streams())
    def test_parsed_events_are_legal(self, stream: bytes) -> None:
        """Whatever a hostile stream dispatches can be framed again and means the same."""
        found = EventParser().feed(stream)

        assert EventParser().feed(b"".join(frame(event) for event in found)) == found


class TestChunks:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_buffers(self, kind: Any) -> None:
        """A chunk is any contiguous buffer of bytes."""
        assert EventParser().feed(kind(b"data: a\n\n")) == [Event("a")]

    def test_reused_buffer(self) -> None:
        """A caller may overwrite its buffer after each call, as `recv_into` does."""
        parser = EventParser()
        buffer = bytearray(b"id: 7\nevent: a\ndata: one\ndata: two\nda")
        assert parser.feed(buffer) == []
        buffer[:] = b"#" * len(buffer)

        assert parser.feed(b"ta: three\n\n") == [Event("one\ntwo\nthree", event="a", id="7")]

    @pytest.mark.parametrize(
        ("chunk", "error"),
        [("data: a\n\n", TypeError), (None, TypeError), (memoryview(b"dxaxtxax:x")[::2], BufferError)],
    )
    def test_no_buffer(self, chunk: Any, error: type[Exception]) -> None:
        """What is no contiguous buffer is refused, and the stream goes on as if it had not been fed."""
        parser = EventParser()
        parser.feed(b"data: a")
        with pytest.raises(error):
            parser.feed(chunk)

        assert parser.feed(b"b\n\n") == [Event("ab")]

    def test_large_event_in_small_chunks(self) -> None:
        """An event of many chunks is the same as one that comes whole."""
        event = Event("\n".join(f"line {number} \U0001f600" for number in range(5000)), id="7")
        stream = frame(event)

        assert feed_all(EventParser(), single_bytes(stream)) == [event]

    def test_streams_are_apart(self) -> None:
        """Two parsers share nothing."""
        one, two = EventParser(), EventParser()
        one.feed(b"id: 1\nretry: 5\ndata: a")

        assert two.feed(b"\n\ndata: b\n\n") == [Event("b")]
        assert (two.last_event_id, two.retry) == ("", None)

    @pytest.mark.parametrize("name", ["last_event_id", "retry", "max_event_bytes"])
    def test_read_only(self, name: str) -> None:
        """What the stream said cannot be overwritten."""
        with pytest.raises(AttributeError):
            setattr(EventParser(), name, "1")


class TestBound:
    @pytest.mark.parametrize("bound", [0, -1, True, 1.5, "10", None, 2**63])
    def test_bound_is_a_positive_integer(self, bound: Any) -> None:
        """The bound of a block's size is a positive integer that a machine can count to."""
        with pytest.raises(ConfigurationError, match="max_event_bytes"):
            EventParser(max_event_bytes=bound)

    def test_default(self) -> None:
        """A block may have a mebibyte unless the caller says otherwise."""
        parser = EventParser()

        assert parser.max_event_bytes == 1 << 20
        assert parser.feed(b"data:" + b"x" * ((1 << 20) - 6) + b"\n\n") == [Event("x" * ((1 << 20) - 6))]
        with pytest.raises(ParseError):
            parser.feed(b"data:" + b"x" * ((1 << 20) - 5) + b"\n\n")

    @pytest.mark.parametrize(
        ("stream", "size"),
        [
            (b"data: abc\n\n", 10),
            (b"id: 1\rdata:\r\r", 12),
            (b"id: 1\r\ndata\r\n\r\n", 11),
            (b"x: y\nfoo\ndata\n\n", 14),
            (b"\xef\xbb\xbfdata\n\n", 5),
            (b"id: 1\n:comment\ndata: a\n:comment\n\n", 14),
        ],
    )
    @given(data=st.data())
    def test_exact(self, stream: bytes, size: int, data: st.DataObject) -> None:
        """A block of exactly the bound passes and one byte more fails, however the bytes are cut."""
        chunks = data.draw(cuts(stream))

        assert len(feed_all(EventParser(max_event_bytes=size), chunks)) == 1
        with pytest.raises(ParseError, match=f"more than {size - 1} bytes"):
            feed_all(EventParser(max_event_bytes=size - 1), [*chunks, b""])

    @given(st.data())
    def test_verdict_does_not_depend_on_chunks(self, data: st.DataObject) -> None:
        """The same bytes give the same events and the same verdict, however they are cut."""
        stream = data.draw(streams())
        chunks = data.draw(cuts(stream))
        bound = data.draw(st.integers(1, 40))

        outcomes = []
        for pieces in ([stream], chunks):
            parser = EventParser(max_event_bytes=bound)
            found: list[Event] = []
            failed = False
            try:
                for piece in [*pieces, b""]:
                    found += parser.feed(piece)
            except ParseError:
                failed = True
            outcomes.append((found, failed, parser.last_event_id))

        assert outcomes[0] == outcomes[1]

    @pytest.mark.parametrize(
        "piece", [b"x", b"data: x\n", b"\0", b":", b"event: e\r", b"\xef\xbb"], ids=lambda piece: repr(piece)
    )
    def test_endless_block(self, piece: bytes) -> None:
        """A line or a block that never ends fails with the first byte beyond the bound."""
        parser = EventParser(max_event_bytes=1000)
        fed = 0
        while fed + len(piece) <= 1000:
            assert parser.feed(piece) == []
            fed += len(piece)
        with pytest.raises(ParseError, match="more than 1000 bytes"):
            parser.feed(piece)

    def test_blocks_are_measured_apart(self) -> None:
        """The bound is for one block: a stream may be as long as it likes."""
        parser = EventParser(max_event_bytes=20)

        assert len(feed_all(parser, [b"data: 0123456789\n\n"] * 1000)) == 1000

    def test_comments_for_ever(self) -> None:
        """Comment lines without a blank line may come for ever, since nothing of them is kept."""
        parser = EventParser(max_event_bytes=40)
        parser.feed(b"data: a\n")

        assert feed_all(parser, [b": keepalive\n"] * 1000) == []
        assert parser.feed(b"\n") == [Event("a")]

    def test_events_before_come_first(self) -> None:
        """Events that came whole before the block that is too large are returned; the next call tells."""
        parser = EventParser(max_event_bytes=20)

        assert parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: far too much for this\n\ndata: b\n\n") == [
            Event("a", id="1")
        ]
        with pytest.raises(ParseError, match="more than 20 bytes"):
            parser.feed(b"")
        assert parser.last_event_id == "1"

    def test_stays_failed(self) -> None:
        """After a block too large no bytes are taken any more: they could be the rest of it."""
        parser = EventParser(max_event_bytes=20)
        for chunk in (b"data: far too much for this", b"\n\ndata: b\n\n", b""):
            with pytest.raises(ParseError, match="more than 20 bytes"):
                parser.feed(chunk)

    def test_memory_is_given_back(self) -> None:
        """A parser that is dropped in the middle of a block, or has failed, holds no buffer."""
        half = b"data: " + b"x" * 50_000 + b"\ndata: " + b"y" * 50_000

        def abandon() -> None:
            EventParser().feed(half)
            parser = EventParser(max_event_bytes=100_000)
            parser.feed(half[:60_000])
            with pytest.raises(ParseError):
                parser.feed(half)
            failed.append(parser)

        failed: list[EventParser] = []
        abandon()
        tracemalloc.start()
        try:
            for _ in range(20):
                abandon()
            kept, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert kept < len(half)
