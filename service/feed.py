"""Lines of standard input as batches of events for ``POST /publish``, as they come.

What is there to read goes into one request, so a slow producer's line leaves at once and a fast one's leave together.
Every event is given a key before it is sent: whatever has to be repeated is published once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .client import RefusedError

CONTENT_TYPE = "application/x-ndjson"
READ_BYTES = 65_536
# Half of what the service takes by default in one request, so that a stricter server is met by few.
MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 524_288

# One line of the input, without its end, and its number from 1 -> a line of the request, or None to skip it.
Encode = Callable[[bytes, int], bytes | None]


class InputError(Exception):
    """A line of the input is no event; nothing of it was sent."""


@dataclass
class Batch:
    """Lines of one request, and the number of the input's line that each was; 0 for one that was none."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes, number: int) -> None:
        """Append one line of the request."""
        self.lines.append(line)
        self.numbers.append(number)
        self.size += len(line) + 1

    @property
    def body(self) -> bytes:
        """The request's body."""
        return b"\n".join(self.lines) + b"\n"

    def located(self, error: RefusedError) -> RefusedError:
        """Return the error with the number of the input's line instead of the request's."""
        line = error.problem.get("line")
        if isinstance(line, int) and 0 < line <= len(self.numbers) and self.numbers[line - 1]:
            error.args = (f"line {self.numbers[line - 1]}: {error}",)
        return error


def one_event(fields: dict[str, Any], key: str | None) -> Batch:
    """Return the batch of a single event with the caller's key, or one of our own."""
    batch = Batch()
    batch.add(_encode(fields, key or new_key()), 0)
    return batch


def text_lines(fields: dict[str, Any]) -> Encode:
    """Encode each line as the data of an event with ``fields``."""

    def encode(line: bytes, number: int) -> bytes:
        try:
            data = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8: {error}") from None
        return _encode(fields | {"data": data}, new_key())

    return encode


def json_lines(topic: str | None) -> Encode:
    """Encode each line, a whole event as a JSON object; ``topic`` is for those that name none. Skips blank lines."""

    def encode(line: bytes, number: int) -> bytes | None:
        line = line.strip()
        if not line:
            return None
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} is not JSON: {error}") from None
        if not isinstance(event, dict) or not event:
            raise InputError(f"line {number} is no event: an object with topic and data")
        added = {}
        if "topic" not in event and topic is not None:
            added["topic"] = topic
        if "id" not in event:
            added["id"] = new_key()
        if not added:
            return line
        # Into the text as it is: a number written with more digits than Python keeps must arrive as it was written.
        return json.dumps(added, ensure_ascii=False)[:-1].encode() + b"," + line[1:]

    return encode


def batches(source: BinaryIO, encode: Encode) -> Iterator[Batch]:
    """Yield what ``source`` holds, line by line encoded, as soon as it can be read; a last line may lack its end."""
    number = 0
    unfinished = b""
    while chunk := source.read1(READ_BYTES):  # type: ignore[attr-defined] # of every buffered reader
        *lines, unfinished = (unfinished + chunk).split(b"\n")
        yield from _batched(lines, number, encode)
        number += len(lines)
    if unfinished:
        yield from _batched([unfinished], number, encode)


def _batched(lines: list[bytes], before: int, encode: Encode) -> Iterator[Batch]:
    batch = Batch()
    for number, line in enumerate(lines, before + 1):
        try:
            encoded = encode(line, number)
        except InputError:
            # The lines before it are good, and were read before it.
            if batch.lines:
                yield batch
            raise
        if encoded is None:
            continue
        if batch.lines and (len(batch.lines) == MAX_BATCH_EVENTS or batch.size + len(encoded) > MAX_BATCH_BYTES):
            yield batch
            batch = Batch()
        batch.add(encoded, number)
    if batch.lines:
        yield batch


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return uuid.uuid4().hex


def _encode(fields: dict[str, Any], key: str) -> bytes:
    return json.dumps(fields | {"id": key}, ensure_ascii=False).encode()
