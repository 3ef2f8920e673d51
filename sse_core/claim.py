"""How a server and a stream find each other for the request that a thread is serving.

The server side (`sse_core.worker`) makes an offer before it calls the application; the stream takes it up on its first
`__next__`. Both happen on one thread, inside the iteration of the response, so wrappers around the body cannot hide it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sse_core.hub import Hub
    from sse_core.stream import EventStream


class Offer(Protocol):
    """A server that can hand the connection of this request over."""

    environ: Mapping[str, Any]

    def use(self, hub: Hub) -> None:
        """Hear that this request uses `hub`, so that the server drains it when it stops."""

    def claim(self, stream: EventStream) -> None:
        """Reserve the connection for `stream` if this response can be handed over.

        Raises `ConfigurationError` where the response can carry no stream at all. As long as the response has not been
        started nothing is decided.
        """

    def has_claimed(self, stream: EventStream) -> bool:
        """Whether the connection is reserved for `stream`, now that its opening bytes are taken. Raises as `claim` does."""


_thread = threading.local()


def make_offer(offer: Offer | None) -> None:
    """Set, or with None withdraw, the offer for what this thread is serving."""
    _thread.offer = offer


def current_offer() -> Offer | None:
    """The offer for the request that this thread is serving, if any."""
    offer: Offer | None = getattr(_thread, "offer", None)
    return offer
