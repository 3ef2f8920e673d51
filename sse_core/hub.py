"""`Hub`: one namespace in one process. Topics, publish, subscribe, numbers; starts lazily, once per process."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from sse_core.backplane import Backplane, Receipt
from sse_core.backplane.memory import MemoryBackplane
from sse_core.claim import current_offer
from sse_core.errors import BusyError, ConfigurationError, EventError, HubClosedError, LimitError, MultiprocessError
from sse_core.event import Event
from sse_core.fanout.engine import COUNTERS, MAX_STREAM_TOPICS, Engine
from sse_core.framing import frame
from sse_core.ids import format_id, parse_id
from sse_core.stream import EventStream
from sse_core.topics import TopicOptions, TopicRules, check_topic

#: Bytes for one subscriber in one turn of a loop, so that one that replays cannot starve the rest.
_RATION = 1 << 18
#: A loop makes a turn each second at least; a loop that makes none for so long (seconds) is stuck.
_STUCK_AFTER = 10.0
_NO_DATA = "missing; an event without data is not dispatched by any client"


class Hub:
    """Topics of one namespace: publish into them, subscribe to them. Thread-safe.

    Constructing one starts nothing, so it may be done at import and before a fork; threads start with the first use in
    a process. ``backplane`` defaults to a new `MemoryBackplane`. ``topics`` maps shell-style patterns to `TopicOptions`,
    the first match counts. Bounds, each with a counter in `stats`:

    * ``max_event_bytes``: one framed event; `EventError` beyond (``events_refused``).
    * ``max_streams``: streams of this process; further ones are told to come back (``streams_refused``).
    * ``max_topics``: topics of this process; idle ones make room, else `LimitError` (``topics_refused``).
    * ``max_stream_topics``: topics of one stream; `LimitError` beyond (``stream_topics_refused``).
    * ``max_history_bytes``: framed bytes of all logs of one loop; the largest log gives (``events_evicted_by_total``).
    * ``mailbox_bytes``: events on their way to a loop; `BusyError` beyond (``publish_refused``).

    ``loops`` is the number of native threads; subscribers are spread over them, and each holds all history. ``keepalive``
    and ``send_timeout`` are seconds: of silence, and that a subscriber may stay blocked. ``retry`` is the reconnection
    time told to clients in milliseconds (None: theirs). ``drain_seconds`` is how long `drain` takes, and clients closed by
    it come back after a random time within ``drain_retry`` (milliseconds).

    Raises `ConfigurationError` for options that cannot be.
    """

    def __init__(
        self,
        backplane: Backplane | None = None,
        *,
        loops: int = 1,
        topics: Mapping[str, TopicOptions] | None = None,
        keepalive: float = 15.0,
        retry: int | None = 2000,
        send_timeout: float = 30.0,
        gap_event: str = "gap",
        max_event_bytes: int = 256 * 1024,
        max_streams: int = 100_000,
        max_topics: int = 100_000,
        max_stream_topics: int = 100,
        max_history_bytes: int = 1 << 30,
        mailbox_bytes: int = 16 << 20,
        drain_seconds: float = 5.0,
        drain_retry: tuple[int, int] = (1000, 5000),
    ) -> None:
        _check_options(locals())
        self._backplane: Backplane = MemoryBackplane() if backplane is None else backplane
        self._rules = TopicRules(topics or {})
        self._retry = retry
        self._max_event_bytes = max_event_bytes
        self._max_streams = max_streams
        self._max_topics = max_topics
        self._max_stream_topics = max_stream_topics
        self._mailbox_bytes = mailbox_bytes
        #: How long `drain` takes unless told otherwise, in seconds.
        self.drain_seconds = drain_seconds
        self._drain_retry = drain_retry
        self._engine_options: dict[str, Any] = {
            "loops": loops,
            "max_topics": max_topics,
            "keepalive_ms": round(keepalive * 1000),
            "send_timeout_ms": round(send_timeout * 1000),
            "drain_retry": tuple(drain_retry),
            "mailbox_bytes": mailbox_bytes,
            "history_bytes": max_history_bytes,
            "ration": _RATION,
            "gap_event": gap_event.encode(),
        }
        self._closed = False
        self._reset()
        _hubs.add(self)

    def _reset(self) -> None:
        """What a process has of its own: nothing of it survives a fork."""
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._numbers: dict[str, int] = {}
        self._free_numbers: list[int] = []
        self._born = 0
        self._horizon = 0
        self._floor = 0
        self._streams = 0
        self._draining = False
        self._beats: list[tuple[int, float]] = []
        self._counts = {
            "publish_refused": 0,
            "events_refused": 0,
            "streams_refused": 0,
            "stream_topics_refused": 0,
            "topics_refused": 0,
        }

    # ---- publish ----

    def publish(
        self,
        topic: str,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> Receipt:
        """Publish one event and return its receipt; it never waits for a subscriber.

        ``data`` is what `Event` takes, or an `Event` (then without keywords). ``id`` is an idempotency key: within the
        backplane's window the same key returns the first event's receipt. Raises `EventError`, `TopicError`, `BusyError`
        (nothing was published: retry with the same key), `LimitError`, `HubClosedError`.
        """
        if type(data) is not Event:
            data = Event(data, event=event, id=id, retry=retry)
        elif event is not None or id is not None or retry is not None:
            raise TypeError("an Event brings its own event, id and retry")
        if topic not in self._numbers:
            check_topic(topic)
        if data.data is None:
            raise EventError("data", _NO_DATA)
        if self._engine is None:
            self._start()
        try:
            return self._backplane.publish(topic, data)
        except BusyError:
            self._counts["publish_refused"] += 1
            raise

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        """Publish `(topic, Event)` items in order, all of them or none. Raises what `publish` raises."""
        checked: list[tuple[str, Event]] = []
        size = 0
        for topic, event in items:
            if not isinstance(event, Event):
                raise TypeError(f"publish_many takes (topic, Event) items, not {type(event).__name__}")
            if event.data is None:
                raise EventError("data", _NO_DATA)
            size += len(event.data or "")
            checked.append((check_topic(topic), event))
        if size > self._mailbox_bytes:
            # BusyError would promise that the same batch fits later.
            raise LimitError("mailbox_bytes", self._mailbox_bytes)
        self._start()
        try:
            return self._backplane.publish_many(checked)
        except BusyError:
            self._counts["publish_refused"] += 1
            raise

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        """See `sse_core.backplane.Receiver`; only the backplane calls it."""
        with self._lock:
            slot = self._numbers.get(topic)
            if slot is None:
                slot = self._number(topic)
            if not self._running().append(slot, number, self._frame(number, event)):
                return False
            self._horizon = number
            return True

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        """See `sse_core.backplane.Receiver`; only the backplane calls it."""
        with self._lock:
            done = self._running().append_many(
                [(self._number(topic), number, self._frame(number, event)) for topic, number, event in items]
            )
            if done:
                self._horizon = items[-1][1]
            return done

    def _running(self) -> Engine:
        if self._engine is None or self._closed:
            raise HubClosedError("the hub was closed")
        return self._engine

    def _frame(self, number: int, event: Event) -> bytes:
        framed = frame(event, format_id(number))
        if len(framed) > self._max_event_bytes:
            self._counts["events_refused"] += 1
            raise EventError(
                "data", f"the framed event has {len(framed)} bytes; max_event_bytes is {self._max_event_bytes}"
            )
        return framed

    # ---- subscribe ----

    def subscribe(
        self,
        topics: str | Iterable[str],
        *,
        last_event_id: str | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> EventStream:
        """Return a WSGI body that streams `topics`, merged in the order of ids.

        ``last_event_id`` resumes after that id; ``"0-0"`` asks for all that is left; None for what comes from now on. With
        ``environ`` (WSGI) it is taken from the header ``Last-Event-ID`` or else from the query's ``last_event_id``, and a
        HEAD request gets no body. What is no id of ours is answered by a gap event, never by an error: a browser cannot
        forget it. Raises `TopicError`, `LimitError` (too many topics), `MultiprocessError`, `HubClosedError`.
        """
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        names = tuple(dict.fromkeys(check_topic(name) for name in names))
        if not names:
            raise ConfigurationError("topics: a stream needs at least one")
        if len(names) > self._max_stream_topics:
            self._counts["stream_topics_refused"] += 1
            raise LimitError("max_stream_topics", self._max_stream_topics)
        if self._closed:
            raise HubClosedError("the hub was closed")
        head = False
        if environ is not None:
            self._check_multiprocess(environ)
            head = environ.get("REQUEST_METHOD") == "HEAD"
            if last_event_id is None:
                last_event_id = _requested_id(environ)
        if not last_event_id:
            return EventStream(self, names, after=None, head=head)
        after = parse_id(last_event_id)
        return EventStream(self, names, after=after or 0, unknown=after is None, head=head)

    def open_stream(self, stream: EventStream) -> bytes | None:
        """The opening bytes of a stream, or None if there is no room for it. A fresh one is placed at the horizon.

        For `sse_core.stream`, which calls it once, on the first ``__next__``. Thread-safe.
        """
        engine = self._start()
        offer = current_offer()
        if offer is not None:
            offer.use(self)
        with self._lock:
            if self._draining or engine.streams() >= self._max_streams:
                self._counts["streams_refused"] += 1
                return None
            try:
                for topic in stream.topics:
                    self._number(topic)
            except LimitError:
                self._counts["streams_refused"] += 1
                return None
            if stream.after is not None and stream.after > self._born and not self._backplane.gave(stream.after):
                # An id of another process's feed means nothing here, even if it lies among ours.
                stream.unknown = True
            opening = b"" if self._retry is None else b"retry: %d\n" % self._retry
            if stream.fresh:
                stream.after = self._horizon
                # Moves the client's cursor without an event, so that even a stream that was silent resumes exactly.
                opening += b"id: %b\n" % format_id(self._horizon).encode()
        return (opening or b":\n") + b"\n"

    def refusal(self) -> bytes:
        """The whole body for a stream without room: when to come back, each at a time of its own."""
        return b"retry: %d\n\n" % random.randint(*self._drain_retry)

    def adopt(self, stream: EventStream, connection: socket.socket) -> None:
        """Give a non-blocking connection to the engine, which owns its descriptor from then on. Thread-safe.

        For `sse_core.stream` and a server's worker, after `open_stream`. On an exception (`HubClosedError`, `MemoryError`)
        the connection is still the caller's.
        """
        with self._lock:
            engine = self._running()
            numbers = [self._number(topic) for topic in stream.topics]
            self._streams += 1
            # After this line exactly one owner is left; a failure above leaves the connection with the caller.
            engine.adopt(connection.fileno(), self._streams, numbers, stream.after or 0, stream.fresh, stream.unknown)
            connection.detach()

    # ---- topics ----

    def _number(self, topic: str) -> int:
        """The engine's number for a topic, which is opened if need be. Under the lock."""
        number = self._numbers.get(topic)
        if number is not None:
            return number
        engine = self._engine
        assert engine is not None
        if not self._free_numbers and len(self._numbers) >= self._max_topics:
            self._close_idle_topics(engine)
        if self._free_numbers:
            number = self._free_numbers.pop()
        elif len(self._numbers) < self._max_topics:
            number = len(self._numbers)
        else:
            self._counts["topics_refused"] += 1
            raise LimitError("max_topics", self._max_topics)
        options = self._rules.options(topic)
        engine.open_topic(
            number,
            json.dumps(topic, ensure_ascii=False).encode(),
            policy=options.policy,
            max_events=options.history_events,
            max_bytes=options.history_bytes,
            age_ms=round(options.history_age * 1000),
            lag=options.lag_bytes,
            floor=self._floor,
        )
        self._numbers[topic] = number
        return number

    def _close_idle_topics(self, engine: Engine) -> None:
        """Forget topics without history and subscribers. One that comes back cannot know what it had, so its floor rises."""
        idle = [topic for topic, number in self._numbers.items() if engine.topic_state(number)[3]]
        for topic in idle:
            number = self._numbers.pop(topic)
            engine.close_topic(number)
            self._free_numbers.append(number)
        if idle:
            self._floor = self._horizon

    def topics(self) -> dict[str, dict[str, int]]:
        """The topics known to this process: for each its ``streams``, and ``events`` and ``bytes`` of history."""
        with self._lock:
            if self._engine is None or self._closed:
                return {}
            states = {topic: self._engine.topic_state(number) for topic, number in self._numbers.items()}
        return {topic: {"streams": state[0], "events": state[1], "bytes": state[2]} for topic, state in states.items()}

    # ---- life ----

    def _start(self) -> Engine:
        engine = self._engine
        if engine is not None:
            return engine
        offer = current_offer()
        if offer is not None:
            self._check_multiprocess(offer.environ)
        with self._lock:
            if self._closed:
                raise HubClosedError("the hub was closed")
            if self._engine is None:
                self._born = self._horizon = self._floor = self._backplane.start(self)
                self._engine = Engine(born=self._horizon, **self._engine_options)
            return self._engine

    def _check_multiprocess(self, environ: Mapping[str, Any]) -> None:
        if environ.get("wsgi.multiprocess") and not self._backplane.joins_processes:
            raise MultiprocessError(
                "this server runs several processes, and a hub in memory would give each its own events: "
                "run one process with more threads, or give the hub a backplane that joins processes"
            )

    @property
    def horizon(self) -> str:
        """The highest id up to which this process has the complete feed."""
        self._start()
        return format_id(self._horizon)

    @property
    def draining(self) -> bool:
        """Whether `drain` was called: no stream is accepted any more."""
        return self._draining

    @property
    def streams(self) -> int:
        """How many streams are open."""
        engine = self._engine
        return 0 if engine is None else engine.streams()

    def drain(self, seconds: float | None = None) -> None:
        """Begin to close all streams at an even pace within `seconds` (default: ``drain_seconds``). Returns at once."""
        with self._lock:
            self._draining = True
            if self._engine is not None and not self._closed:
                self._engine.drain(round((self.drain_seconds if seconds is None else seconds) * 1000))

    def is_healthy(self) -> bool:
        """Whether every loop has made a turn lately. Ask at least every few seconds, or the first answer is generous."""
        engine = self._engine
        if engine is None or self._closed:
            return True
        now = time.monotonic()
        before = self._beats or [(-1, now)] * self._engine_options["loops"]
        self._beats = [
            (beat, now if beat != seen else since)
            for beat, (seen, since) in zip(engine.heartbeats(), before, strict=True)
        ]
        return all(now - since < _STUCK_AFTER for _, since in self._beats)

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name, summed over the loops (`sse_core.fanout.engine.COUNTERS`) and of the hub itself."""
        engine = self._engine
        counters = dict.fromkeys(COUNTERS, 0) if engine is None else engine.counters()
        refused = counters["streams_refused"] + self._counts["streams_refused"]
        return {**counters, **self._counts, "streams_refused": refused, **self._backplane.stats()}

    def ended(self) -> list[tuple[int, str]]:
        """The streams that ended since the last call, as number and reason; the first call begins the account.

        1,024 wait for each loop; what did not fit is counted as ``ends_unreported``. Streams have numbers from 1 on, in
        the order in which their connections were adopted.
        """
        return self._start().ended()

    def close(self) -> None:
        """End all streams and threads. Further calls raise `HubClosedError`; `stats` still answers."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            engine = self._engine
        # Without the lock: a publisher that holds its own lock may be waiting for this one.
        self._backplane.close()
        if engine is not None:
            engine.stop()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _requested_id(environ: Mapping[str, Any]) -> str | None:
    # The header first: a browser that reconnects sends it to the very URL that it first opened, old query included.
    header: str | None = environ.get("HTTP_LAST_EVENT_ID")
    if header:
        return header
    values = parse_qs(environ.get("QUERY_STRING", "")).get("last_event_id")
    return values[0] if values else None


def _check_options(options: dict[str, Any]) -> None:
    least = {
        "loops": 1, "keepalive": 0.1, "send_timeout": 0.1, "max_event_bytes": 64, "max_streams": 1, "max_topics": 1,
        "max_stream_topics": 1, "max_history_bytes": 1, "mailbox_bytes": 4096, "drain_seconds": 0,
    }  # fmt: skip
    for name, bound in least.items():
        if not options[name] >= bound:
            raise ConfigurationError(f"{name}: must be at least {bound}")
    if options["max_stream_topics"] > MAX_STREAM_TOPICS:
        raise ConfigurationError(f"max_stream_topics: must be at most {MAX_STREAM_TOPICS}")
    if options["retry"] is not None and options["retry"] < 0:
        raise ConfigurationError("retry: must not be negative")
    least_retry, most_retry = options["drain_retry"]
    if not 0 <= least_retry <= most_retry:
        raise ConfigurationError("drain_retry: must be two milliseconds, the lesser first")
    if options["max_event_bytes"] > options["mailbox_bytes"] // 2:
        raise ConfigurationError("max_event_bytes: must be at most half of mailbox_bytes, or no event might ever fit")
    Event("", event=options["gap_event"])


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The threads of the engine do not exist here, and the lock may have been held by one that does not either.
    for hub in _hubs:
        hub._reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
