"""The backplane without a server: ids and idempotency keys in this process's memory.

One process only, and a restart forgets everything; subscribers are told so (`gap`, reason `restart`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import zlib
from collections.abc import Sequence

from sse_core.backplane import MOST_TEXTS, Beginning, Receipt, Receiver
from sse_core.errors import BusyError, HubClosedError
from sse_core.event import Event
from sse_core.ids import format_id

_MILLISECOND = 1 << 20  # of an id's number; see sse_core.ids
#: The low bits of a feed's ids say which feed gave them; so many events fit into a millisecond.
_MARKS = 1 << 10


class MemoryBackplane:
    """Gives ids from the clock of this process.

    ``key_window`` (seconds) is how long an idempotency key is remembered, ``max_keys`` how many at most: beyond that the
    oldest go early, which `stats` counts as ``keys_evicted``.

    While a worker is replaced two feeds coexist, and the ids of both come from the clock. So each feed has a mark, which
    all of its ids carry: by host and pid, so that the workers of one server differ (``mark`` sets it, for tests).
    """

    joins_processes = False

    def __init__(
        self,
        *,
        namespace: str = "default",
        key_window: float = 120.0,
        max_keys: int = 100_000,
        mark: int | None = None,
    ) -> None:
        self.namespace = namespace
        self._lock = threading.Lock()
        self._receiver: Receiver | None = None
        self._last = 0
        self._fixed_mark = mark
        self._mark = 0
        self._key_window = round(key_window * 1000) * _MILLISECOND
        self._max_keys = max_keys
        # In the order of publishing, so that the first is the oldest.
        self._keys: dict[str, int] = {}
        self._keys_evicted = 0
        self._duplicates = 0
        self._notes: dict[str, str] = {}
        self._held: set[str] = set()
        # Name -> texts with the monotonic time at which each is forgotten; in the order in which names were last used.
        self._texts: dict[str, list[tuple[float, str]]] = {}

    def start(self, receiver: Receiver) -> Beginning:
        """Begin a feed. Its first id is above all ids that this process, or one before it, can have given."""
        # A new lock: in a child of fork the old one may be held by a thread that does not exist.
        self._lock = threading.Lock()
        with self._lock:
            self._receiver = receiver
            self._keys.clear()
            self._held.clear()
            self._texts.clear()
            # In the process that serves: a fork has a pid of its own.
            host = zlib.crc32(socket.gethostname().encode())
            self._mark = (host + os.getpid()) % _MARKS if self._fixed_mark is None else self._fixed_mark
            # The end of a millisecond: what another process gave in this very millisecond is below it, and what this
            # one gives is above.
            self._last = self._now() | (_MILLISECOND - _MARKS) | self._mark
            return Beginning(self._last, self._last)

    def listen(self) -> None:
        """See `Backplane.listen`: only publishing delivers."""

    def gave(self, number: int) -> bool:
        """See `Backplane.gave`."""
        return number % _MARKS == self._mark

    def open(self, topics: Sequence[str]) -> None:
        """See `Backplane.open`: every topic is complete here, since all events are."""

    def reach(self, number: int) -> bool:
        """See `Backplane.reach`: an id is at the horizon once it is given."""
        return False

    def reach_present(self) -> None:
        """See `Backplane.reach_present`: what is published is delivered by then."""

    def publish(self, topic: str, event: Event, *, attempt: str | None = None) -> Receipt:
        """See `Backplane.publish`. What has failed here was not published."""
        key = event.id
        with self._lock:
            if key is not None:
                first = self._find(key)
                if first is not None:
                    return Receipt(format_id(first), True)
            number = self._next()
            if not self._running().deliver(topic, number, event):
                raise BusyError(1.0)
            self._last = number
            if key is not None:
                self._remember(key, number)
        # PERF: a NamedTuple's own constructor costs as much as framing does.
        return tuple.__new__(Receipt, (format_id(number), False))

    def publish_many(self, items: Sequence[tuple[str, Event]]) -> list[Receipt]:
        """See `Backplane.publish_many`. A key that stands twice in the batch is a duplicate of itself."""
        receipts: list[Receipt] = []
        deliveries: list[tuple[str, int, Event]] = []
        fresh: dict[str, int] = {}
        with self._lock:
            number = self._next()
            for topic, event in items:
                key = event.id
                first = None if key is None else fresh.get(key) or self._find(key)
                if first is not None:
                    receipts.append(Receipt(format_id(first), True))
                    continue
                deliveries.append((topic, number, event))
                receipts.append(Receipt(format_id(number), False))
                if key is not None:
                    fresh[key] = number
                number += _MARKS
            if deliveries:
                if not self._running().deliver_many(deliveries):
                    raise BusyError(1.0)
                self._last = number - _MARKS
            for key, number in fresh.items():
                self._remember(key, number)
        return receipts

    def is_available(self) -> bool:
        """See `Backplane.is_available`: it is the process itself."""
        return True

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """See `Backplane.audience`."""
        counts = self._running().audience(topics)
        if topics is None:
            return {topic: count for topic, count in counts.items() if count}
        return {topic: counts.get(topic, 0) for topic in topics}

    def presence(self, topic: str) -> dict[str, int]:
        """See `Backplane.presence`."""
        return {subject: count for (_, subject), count in self._running().presence(topic).items()}

    def workers(self) -> list[str]:
        """See `Backplane.workers`."""
        return [f"{socket.gethostname()}:{os.getpid()}"]

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        """See `Backplane.hold`: nobody else is there to hold it."""
        with self._lock:
            if note is not None:
                self._notes[lease] = note
            self._held.add(lease)
            return True, self._notes.get(lease)

    def release(self, lease: str) -> None:
        """See `Backplane.release`."""
        with self._lock:
            self._held.discard(lease)

    def is_held(self, lease: str) -> bool:
        """See `Backplane.is_held`."""
        return lease in self._held

    def sent(self, topics: Sequence[str]) -> dict[str, int]:
        """See `Backplane.sent`."""
        return self._running().sent(topics)

    def remember(self, name: str, text: str, seconds: float) -> None:
        """See `Backplane.remember`."""
        now = time.monotonic()
        with self._lock:
            kept = [each for each in self._texts.pop(name, []) if each[0] > now and each[1] != text]
            self._texts[name] = [(now + seconds, text), *kept][:MOST_TEXTS]
            # The first is the one that was used longest ago.
            while len(self._texts) > self._max_keys or self._texts[next(iter(self._texts))][0][0] <= now:
                del self._texts[next(iter(self._texts))]

    def recall(self, name: str) -> list[str]:
        """See `Backplane.recall`."""
        now = time.monotonic()
        with self._lock:
            return [text for expires, text in self._texts.get(name, []) if expires > now]

    def kept(self, topic: str) -> list[Event]:
        """See `Backplane.kept`: it keeps none."""
        return []

    def topic_of(self, number: int, topics: Sequence[str]) -> str | None:
        """See `Backplane.topic_of`: it keeps none."""
        return None

    def stats(self) -> dict[str, int]:
        """See `Backplane.stats`."""
        return {"keys": len(self._keys), "keys_evicted": self._keys_evicted, "duplicates": self._duplicates}

    def close(self) -> None:
        """See `Backplane.close`."""
        with self._lock:
            self._receiver = None

    def _running(self) -> Receiver:
        if self._receiver is None:
            raise HubClosedError("the backplane was closed")
        return self._receiver

    def _now(self) -> int:
        return time.time_ns() // 1_000_000 * _MILLISECOND

    def _next(self) -> int:
        now = self._now() | self._mark
        # A clock that was set back only lets the sequence run on.
        return now if now > self._last else self._last + _MARKS

    def _find(self, key: str) -> int | None:
        number = self._keys.get(key)
        if number is None or number < self._now() - self._key_window:
            return None
        self._duplicates += 1
        return number

    def _remember(self, key: str, number: int) -> None:
        keys = self._keys
        # Taken out first: a key that comes back after its window is young again.
        keys.pop(key, None)
        keys[key] = number
        oldest_kept = number - self._key_window
        while len(keys) > 1:
            first = next(iter(keys))
            if keys[first] >= oldest_kept:
                if len(keys) <= self._max_keys:
                    break
                self._keys_evicted += 1
            del keys[first]
