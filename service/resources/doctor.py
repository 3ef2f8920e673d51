"""``POST /doctor/{probe}``: the next beat of the stream ``/events?topic=doctor/{probe}``, when ``sse-kit doctor`` asks for it.

It asks once the one before has arrived. So what is held back on the way shows by the order of things, and not by a clock.
"""

from __future__ import annotations

import falcon
import msgspec

from sse_core import Event

from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..problems import Problem
from ..topics import DOCTOR_PREFIX, is_probe

MOST_PADDING_BYTES = 65_536


class DoctorResource:
    """Publishes beats, each with as much padding as was asked for."""

    def __init__(self, namespaces: Namespaces, *, is_open: bool) -> None:
        self._namespaces = namespaces
        self._is_open = is_open

    def on_post(
        self, req: falcon.Request, resp: falcon.Response, probe: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        """Publish beat number ``beat`` with ``padding`` bytes; 404 where the service lets nobody ask."""
        found = self._namespaces.find(namespace)
        if not self._is_open or not is_probe(probe):
            raise Problem(404, "unknown-probe", "A probe is 32 hexadecimal digits, where the setting doctor is on.")
        beat = _number(req, "beat", most=1_000_000)
        padding = _number(req, "padding", most=MOST_PADDING_BYTES)
        # Nobody needs a grant for it: who may publish nothing shall not fill histories by it either.
        self._namespaces.clients.count_events(req, 1)
        data = msgspec.json.encode({"beat": beat, "padding": "x" * padding}).decode()
        receipt = found.hub.publish(DOCTOR_PREFIX + probe, Event(data, event="beat"))
        resp.set_header("Cache-Control", "no-store")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"id": receipt.id})


def _number(req: falcon.Request, name: str, *, most: int) -> int:
    text = req.get_param(name) or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 7 or int(text) > most:
        raise Problem(400, "invalid-parameter", f"{name} is a number from 0 to {most}.", field=name)
    return int(text)
