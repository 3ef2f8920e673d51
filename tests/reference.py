"""The interpretation of an event stream, read off the HTML standard (section 9.2.6) as simply as it can be said.

Slow, needs the whole stream at once and has no bounds: it is what `sse_core.parsing` is compared with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_RETRY = 2**31 - 1


@dataclass(frozen=True)
class Dispatched:
    """One event that the stream dispatches; ``None`` for what its block did not set."""

    data: str
    event: str | None
    id: str | None
    retry: int | None


@dataclass
class Interpretation:
    """What a whole stream comes to."""

    events: list[Dispatched] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None


def interpret(stream: bytes) -> Interpretation:
    """Interpret a stream that ends after these bytes."""
    result = Interpretation()
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")
    *lines, _cut_off = re.split(r"\r\n|\r|\n", text)

    data_buffer = event_type_buffer = ""
    last_event_id_buffer = ""
    block_id: str | None = None
    block_retry: int | None = None
    for line in lines:
        if line == "":
            result.last_event_id = last_event_id_buffer
            if data_buffer != "":
                data = data_buffer.removesuffix("\n")
                result.events.append(Dispatched(data, event_type_buffer or None, block_id, block_retry))
            data_buffer = event_type_buffer = ""
            block_id = block_retry = None
            continue
        name, _colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event_type_buffer = value
        elif name == "data":
            data_buffer += value + "\n"
        elif name == "id" and "\0" not in value:
            last_event_id_buffer = block_id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            # Eleven digits that do not begin with zero are above the bound already; Python refuses to read thousands.
            result.retry = block_retry = min(int((value.lstrip("0") or "0")[:11]), MAX_RETRY)
    return result
