"""What one client may take of a process, so that there is something left for all others; and how often a limit was reached.

A client is a subject where tokens are asked for, and else an address. Who is neither, on this machine or behind a believed
proxy without a word of it, is one of ours and is not limited.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import falcon

from .auth import subject_of
from .problems import Problem

if TYPE_CHECKING:
    from .addresses import Addresses
    from .settings import Settings

# A bucket is full again after burst/rate seconds, and then it need not be remembered: seldom do so many publish at once.
_MOST_BUCKETS = 10_000
# A run frees its place when it ends, at no known moment.
_RUN_RETRY_SECONDS = 5

#: Settings whose limits are counted where they are reached, for the metric `sse_kit_limit_reached_total`.
LIMITS = (
    "max_batch_events",
    "max_body_bytes",
    "max_jobs",
    "max_producers",
    "max_producers_per_client",
    "max_stream_topics",
    "max_streams",
    "max_streams_per_address",
    "max_streams_per_subject",
    "max_topic_bytes",
    "max_topics",
    "max_upload_bytes",
    "min_free_bytes",
    "publish_rate",
    "topic_characters",
    "upload_timeout",
)

Source = Iterable[object] | Callable[[], Iterable[object]]


class Reached:
    """How often each limit was reached, by the name of its setting. Thread-safe."""

    def __init__(self, names: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._counts = Counter(dict.fromkeys(names, 0))

    def count(self, name: str) -> None:
        """It was reached once more."""
        with self._lock:
            self._counts[name] += 1

    def counts(self) -> dict[str, int]:
        """All of them; a limit that was never reached has a zero, if it was named at the beginning."""
        with self._lock:
            return dict(self._counts)


class Rates:
    """A token bucket for each client: ``rate`` events a second, after ``burst`` at once. Thread-safe.

    A ``rate`` of 0 limits nobody.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        # The tokens that were left, and when; who was asked for last is at the end.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __bool__(self) -> bool:
        return self._rate > 0

    def take(self, client: str | None, events: int) -> None:
        """Count so many events of a client, or raise a `Problem`, 429, and count none of them."""
        if client is None or self._rate <= 0:
            return
        now = self._clock()
        with self._lock:
            left, since = self._buckets.get(client, (float(self._burst), now))
            left = min(self._burst, left + (now - since) * self._rate)
            missing = events - left
            if missing <= 0:
                self._buckets[client] = left - events, now
                self._buckets.move_to_end(client)
                if len(self._buckets) > _MOST_BUCKETS:
                    self._buckets.popitem(last=False)
                return
        raise Problem(
            429,
            "too-many-requests",
            f"Of one client at most {self._rate:g} events a second are taken; nothing was published.",
            limit="publish_rate",
            value=int(self._rate) or 1,
            retry_after=missing / self._rate,
        )


class Place:
    """A run's place among those of its client."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave
        self._lock = threading.Lock()

    def leave(self) -> None:
        """The run is over, or has never begun. May be repeated, by any thread."""
        with self._lock:
            leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def of(self, source: Source) -> Iterable[object]:
        """Return ``source``, which leaves this place when it is closed."""
        return _Placed(source, self)


class _Placed(Iterator[object]):
    """A source, and what is to be done when it is closed."""

    def __init__(self, source: Source, place: Place) -> None:
        self._source = source
        self._place = place
        self._items: Iterator[object] | None = None

    def __iter__(self) -> Iterator[object]:
        self._items = iter(self._source() if callable(self._source) else self._source)
        return self

    def __next__(self) -> object:
        assert self._items is not None
        # What a generator returns is in its StopIteration, and passes.
        return next(self._items)

    def close(self) -> None:
        """Close what there is, and leave."""
        try:
            close = getattr(self._items, "close", None) or getattr(self._source, "close", None)
            if close is not None:
                close()
        finally:
            self._place.leave()


class Runs:
    """How many runs each client has in this process, of ``most``. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def enter(self, client: str | None) -> Place:
        """Take a place for one more. Raises a `Problem`, 429."""
        if client is None:
            return Place(lambda: None)
        with self._lock:
            if self._counts[client] >= self._most:
                raise Problem(
                    429,
                    "too-many-requests",
                    f"One client has at most {self._most} runs at a time.",
                    limit="max_producers_per_client",
                    value=self._most,
                    retry_after=_RUN_RETRY_SECONDS,
                )
            self._counts[client] += 1
        return Place(lambda: self._end(client))

    def _end(self, client: str) -> None:
        with self._lock:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def __len__(self) -> int:
        with self._lock:
            return self._counts.total()


class Clients:
    """What each client may have, by the settings. One of a process, for all of its namespaces. Thread-safe."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._addresses = addresses
        self._streams_per_address = settings.max_streams_per_address
        self._streams_per_subject = settings.max_streams_per_subject
        self.rates = Rates(settings.publish_rate, settings.publish_burst)
        self._counts_events = bool(self.rates)
        self.runs = Runs(settings.max_producers_per_client)

    def count_events(self, req: falcon.Request, events: int) -> None:
        """Count what a request is about to publish. Raises a `Problem`, 429."""
        if self._counts_events:
            self.rates.take(self.client_of(req), events)

    def enter_run(self, req: falcon.Request) -> Place:
        """Take a place for a run that a request is about to start. Raises a `Problem`, 429."""
        return self.runs.enter(self.client_of(req))

    def client_of(self, req: falcon.Request) -> str | None:
        """Return whose rates and runs those of a request are; None for one that is not limited."""
        subject = subject_of(req)
        if subject is not None:
            return f"subject {subject}"
        address = self._addresses.of(req.env)
        return None if address is None else f"address {address}"

    def quotas(self, req: falcon.Request) -> dict[str, int]:
        """Return what a stream counts for, each with the most streams that it may have."""
        found: dict[str, int] = {}
        address = self._addresses.of(req.env)
        if address is not None:
            found[f"address {address}"] = self._streams_per_address
        subject = subject_of(req)
        if subject is not None:
            found[f"subject {subject}"] = self._streams_per_subject
        return found


def limit_of(quota: str) -> str:
    """Return the name of the setting that bounds a quota."""
    return "max_streams_per_address" if quota.startswith("address ") else "max_streams_per_subject"
