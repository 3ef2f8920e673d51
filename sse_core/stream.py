"""`EventStream`: a WSGI body that is a value until it is iterated, and then a connection of the engine.

Under a server that makes an offer the connection itself is handed over and the iteration ends after the opening bytes.
Everywhere else the engine serves one end of a socket pair and the iteration yields what arrives at the other: the same
read path, one thread (or greenlet) for each stream.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sse_core.admission import ANYBODY, Admission
from sse_core.claim import current_offer
from sse_core.errors import LimitError

if TYPE_CHECKING:
    from sse_core.hub import Hub

#: The head of every stream, 200 implied (HTML standard, section 9.2; RFC 9111 section 5.2.2.5). nginx honours the last.
STREAM_HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache, no-store"),
    ("X-Accel-Buffering", "no"),
)

#: The head of what is no stream any more.
OVER_HEADERS: tuple[tuple[str, str], ...] = (("Cache-Control", "no-cache, no-store"),)

_CHUNK = 65536
_NO_QUOTAS: Mapping[str, int] = MappingProxyType({})


class EventStream:
    """The body of a response with `status` and `headers`: what a WSGI application returns, or a framework's response holds.

    Made by `Hub.subscribe`; nothing is registered before the first `__next__`. Use it for one response and from one thread.
    """

    #: What the stream counts for while it is open, each with the most streams that there may be of it: whoever makes the
    #: stream may set it before the response begins. See `Hub.full`.
    quotas: Mapping[str, int] = _NO_QUOTAS

    def __init__(
        self,
        hub: Hub,
        topics: tuple[str, ...],
        *,
        after: int | None,
        unknown: bool = False,
        head: bool = False,
        over: bool = False,
        final: bytes | None = None,
        admission: Admission = ANYBODY,
    ) -> None:
        self.hub = hub
        self.topics = topics
        self.unknown = unknown
        #: Who it is, and for how long.
        self.admission = admission
        #: The number of the id after which to send; None until a fresh stream has been given the horizon.
        self.after = after
        self.fresh = after is None
        #: Whether there is nothing more to come: answer with `status` 204, which ends an EventSource for good.
        self.over = over
        # All that there is to say, instead of a connection of the engine.
        self._final = final
        self._opened = False
        self._ended = head or over
        self._handed_over = False
        self._socket: socket.socket | None = None

    @property
    def status(self) -> str:
        """The status line that the response must have: 200, or 204 (HTML standard, section 9.2.3) if it is `over`."""
        return "204 No Content" if self.over else "200 OK"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields that the response must have."""
        return list(OVER_HEADERS if self.over else STREAM_HEADERS)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        """The opening bytes, then what the engine sends; under a server that takes the connection over, only the former."""
        if self._ended:
            raise StopIteration
        if not self._opened:
            return self._open()
        if self._socket is None:
            offer = current_offer()
            if offer is not None and offer.has_claimed(self):
                self._ended = self._handed_over = True
                raise StopIteration
            try:
                self._connect()
            except LimitError:
                # Others came first, since the stream was opened: its client has been told when to come back.
                self._ended = True
                raise StopIteration from None
        assert self._socket is not None
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End the stream, as WSGI servers do after the last chunk (PEP 3333). A connection handed over goes on."""
        self._ended = True
        if self._opened and not self._handed_over:
            # Its client may have left before anything was handed over.
            self.hub.give_up(self)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def handed_over(self) -> bool:
        """Whether the iteration ended for the connection to go on with the engine; all that was yielded has been taken."""
        return self._handed_over

    def _open(self) -> bytes:
        offer = current_offer()
        if offer is not None and offer.environ.get("REQUEST_METHOD") == "HEAD":
            # Servers that drop the body of a HEAD still iterate it, and this one would not end.
            self._ended = True
            raise StopIteration
        self._opened = True
        if self._final is not None:
            self._ended = True
            return self._final
        opening = self.hub.open_stream(self)
        if opening is None:
            # Full or draining. A browser gives up on any status but 200, so the answer is a stream that ends at once.
            self._ended = True
            return self.hub.refusal()
        if offer is not None:
            offer.claim(self)
        return opening

    def _connect(self) -> None:
        # Looked up now: an application that was loaded before gevent patched the module would block the whole process.
        ours, theirs = socket.socketpair()
        try:
            theirs.setblocking(False)
            self.hub.adopt(self, theirs)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        self._socket = ours
