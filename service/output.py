"""Events and receipts as lines for a terminal or a pipe."""

from __future__ import annotations

import json

from sse_core import Event

# Control characters but tab and line feed. In a terminal they move the cursor or worse, and events come from others.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def as_json(event: Event) -> str:
    """Return the event as one line of JSON: id, event ("message" when it has no name) and data."""
    return json.dumps({"id": event.id, "event": event.event or "message", "data": event.data}, ensure_ascii=False)


def as_text(event: Event, *, terminal: bool) -> str:
    """Return the event's data, after its name if it has one. For a terminal, control characters are made visible."""
    text = f"{event.event}: {event.data}" if event.event else str(event.data)
    return text.translate(_CONTROLS) if terminal else text


def as_receipt(line: bytes) -> str:
    """Return the id of a receipt; one that was published before says so."""
    receipt = json.loads(line)
    return f"{receipt['id']} duplicate" if receipt["duplicate"] else str(receipt["id"])
