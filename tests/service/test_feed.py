from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from sse_kit.client import RefusedError
from sse_kit.feed import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, InputError, batches, json_lines, one_event, text_lines


class Pipe(io.BytesIO):
    """A source that is read chunk by chunk."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self._chunks: Iterator[bytes] = iter(chunks)

    def read1(self, size: int | None = -1) -> bytes:
        return next(self._chunks, b"")


def test_text_lines() -> None:
    """Each line is the data of an event with a key of its own; the last may lack its end, and an empty one is empty."""
    (first, last) = batches(Pipe(b"one\r\n\nt", b"wo"), text_lines({"topic": "a", "event": "e"}))

    events = [json.loads(line) for batch in (first, last) for line in batch.lines]
    assert [(event["topic"], event["event"], event["data"]) for event in events] == [
        ("a", "e", "one"),
        ("a", "e", ""),
        ("a", "e", "two"),
    ]
    assert len({event["id"] for event in events}) == 3
    assert (first.numbers, last.numbers) == ([1, 2], [3])


def test_json_lines() -> None:
    """A line of JSON goes out as it is, with a key and the default topic added where they are missing."""
    (batch,) = batches(Pipe(b'{"data": 1e400}\n\n {"topic": "b", "data": 1, "id": "k"} \n'), json_lines("a"))

    first, second = batch.lines
    assert first.endswith(b'"data": 1e400}')
    assert json.loads(first)["topic"] == "a"
    assert len(json.loads(first)["id"]) == 32
    assert second == b'{"topic": "b", "data": 1, "id": "k"}'
    assert batch.numbers == [1, 3]


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'"text"', b"\xff"])
def test_bad_json_lines(line: bytes) -> None:
    """A line that is no event ends the feed with its number, after the good ones before it."""
    feed = batches(Pipe(b'{"topic":"a","data":1}\n' + line + b"\n"), json_lines(None))

    assert next(feed).numbers == [1]
    with pytest.raises(InputError, match="line 2 is no"):
        next(feed)


def test_text_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are refused with the line's number."""
    with pytest.raises(InputError, match="line 1 is not UTF-8"):
        next(batches(Pipe(b"\xff\n"), text_lines({"topic": "a"})))


def test_batches_are_bounded() -> None:
    """What comes at once is split into requests of bounded length and size, in order."""
    many = list(batches(Pipe(b"x\n" * (2 * MAX_BATCH_EVENTS + 1)), text_lines({"topic": "a"})))
    large = list(
        batches(Pipe(b"y" * (MAX_BATCH_BYTES // 2) + b"\nz\n" + b"y" * (MAX_BATCH_BYTES // 2) + b"\n"), text_lines({}))
    )

    assert [len(batch.lines) for batch in many] == [MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, 1]
    assert [number for batch in many for number in batch.numbers] == list(range(1, 2 * MAX_BATCH_EVENTS + 2))
    assert [len(batch.lines) for batch in large] == [2, 1]


def test_each_chunk_at_once() -> None:
    """A line that has come is not kept waiting for the next one."""
    feed = batches(Pipe(b"one\n", b"two\n"), text_lines({"topic": "a"}))

    assert [len(batch.lines) for batch in feed] == [1, 1]


def test_located_errors() -> None:
    """The line that a server names within a request is told as the line of the input."""
    _, second = batches(Pipe(b"x\n" * (MAX_BATCH_EVENTS + 5)), text_lines({"topic": "a"}))
    error = RefusedError(422, "", {"detail": "bad", "line": 3})

    assert str(second.located(error)) == f"line {MAX_BATCH_EVENTS + 3}: the server answered 422: bad"
    single = one_event({"topic": "a", "data": "x"}, None)
    assert str(single.located(RefusedError(422, "", {"detail": "bad", "line": 1}))) == "the server answered 422: bad"
