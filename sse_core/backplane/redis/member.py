"""`Member`: one namespace of a process, as the threads that want something of it and the one that reads share it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sse_core.backplane import Receiver
from sse_core.backplane.redis.feed import Feed, Source
from sse_core.backplane.redis.names import Names
from sse_core.errors import BackplaneError, HubClosedError

#: Seconds after which a hub that had no room may have some.
_PAUSE = 0.005


class Reads(Protocol):
    """The thread that serves a member."""

    def wake(self) -> None:
        """Make it look at what was asked."""


class Opening:
    """Topics that a stream waits for."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = topics
        self.error: Exception | None = None
        self._done = threading.Event()

    def finish(self, error: Exception | None = None) -> None:
        """It is done, or has failed."""
        if not self._done.is_set():
            self.error = error
            self._done.set()

    def wait(self, timeout: float) -> None:
        """Wait; raise what went wrong."""
        if not self._done.wait(timeout):
            raise BackplaneError(1.0, f"the topics could not be subscribed within {timeout} s")
        if self.error is not None:
            raise self.error


class Member:
    """One namespace of a reader: its feed, what is wanted of it, and when a topic was last wanted."""

    def __init__(self, names: Names, receiver: Receiver, source: Source, *, grace: float) -> None:
        self.names = names
        self.receiver = receiver
        self.feed = Feed(receiver, source, self.pause)
        self.grace = grace
        #: Who serves it; notified by `moved`.
        self.reader: Reads | None = None
        #: Commands fail.
        self.ailing = False
        #: Subscribed, filled and up to date.
        self.connected = False
        #: It has been, or an attempt to has failed.
        self.tried = False
        self._closed = threading.Event()
        self.touched: dict[str, float] = {}
        self.requests: deque[Opening] = deque()
        self.openings: list[Opening] = []
        self.awaited: set[bytes] = set()
        self.heard_at = 0.0
        #: Idempotency keys of the namespace that were forgotten early, as of the last report.
        self.keys_evicted = 0
        #: How often its connection was lost.
        self.reconnects = 0
        self.swept_at = 0.0
        #: Notified when the horizon moves or the connection is lost.
        self.moved = threading.Condition()

    def open(self, topics: Sequence[str], timeout: float) -> None:
        """Wait until the topics are complete here. Raises `BackplaneError`, `LimitError`. From any thread."""
        now = time.monotonic()
        missing = []
        for topic in topics:
            if self.feed.has(topic):
                self.touched[topic] = now
            else:
                missing.append(topic)
        if not missing:
            return
        with self.moved:
            # The first stream of a process; the reader is on its way.
            self.moved.wait_for(lambda: self.tried or self.closed, timeout)
        if self.closed:
            raise HubClosedError("the hub was closed")
        if not self.connected or self.reader is None:
            raise BackplaneError(1.0, "Redis is away, and this process has not the history of the topics")
        # Not before: names that nobody can have here would be kept for ever.
        self.touched |= dict.fromkeys(missing, now)
        opening = Opening(missing)
        self.requests.append(opening)
        self.reader.wake()
        opening.wait(timeout)

    def note_moved(self) -> None:
        """Tell those who wait for the horizon, or for the connection."""
        with self.moved:
            self.moved.notify_all()

    def hang_up(self) -> None:
        """There is no connection for the moment; who waits goes on waiting for the next one."""
        self.connected = self.tried = False
        self.requests.extendleft(reversed(self.openings))
        self.openings.clear()
        self.awaited.clear()

    def fail(self, error: BackplaneError) -> None:
        """There is no connection: tell those who wait."""
        self.connected = False
        self.tried = True
        while self.requests:
            self.requests.popleft().finish(error)
        self.note_moved()

    def close(self) -> None:
        """Let go of it: no thread delivers to the receiver any more, but for a call that is under way."""
        self._closed.set()
        if self.reader is not None:
            self.reader.wake()
        self.note_moved()

    @property
    def closed(self) -> bool:
        """Whether its hub was closed."""
        return self._closed.is_set()

    def wait_for_close(self, seconds: float) -> bool:
        """Wait so long, or less if its hub is closed; say whether it is."""
        return self._closed.wait(seconds)

    def pause(self) -> None:
        """Wait until the hub may have room again. Raises `HubClosedError`."""
        if self.closed:
            raise HubClosedError("the hub was closed")
        time.sleep(_PAUSE)
