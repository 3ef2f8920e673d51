"""`Hub`: one namespace in one process. Topics, publish, subscribe, numbers; starts lazily, once per process."""

from __future__ import annotations

import os
import random
import socket
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sse_core.admission import Admission
from sse_core.backplane import Backplane, Receipt
from sse_core.backplane.memory import MemoryBackplane
from sse_core.claim import current_offer
from sse_core.environ import request_key, requested_id
from sse_core.errors import (
    BackplaneError,
    BusyError,
    ConfigurationError,
    EventError,
    ForbiddenError,
    HubClosedError,
    LimitError,
    MultiprocessError,
)
from sse_core.event import Event
from sse_core.fanout.engine import COUNTERS, Engine
from sse_core.framing import frame
from sse_core.ids import format_id, parse_id
from sse_core.lease import Lease
from sse_core.local import Local
from sse_core.options import check_options
from sse_core.producer import Producer, Source, interrupted_event
from sse_core.producers import Producers, State
from sse_core.progress import Progress, ProgressMeter
from sse_core.publication import check_data, check_item, to_event
from sse_core.stream import EventStream
from sse_core.telemetry import Histogram, StreamEnd
from sse_core.topics import TopicOptions, TopicRules, check_topic

#: Bytes for one subscriber in one turn of a loop, so that one that replays cannot starve the rest.
_RATION = 1 << 18
#: Whether whoever sends the request may subscribe to the topic. Called by several threads at a time.
Authorize = Callable[[str, Mapping[str, Any] | None], bool]
#: For fewer subscribers of a topic a system call each costs no more than the ring.
_RING_FROM = 4
#: As long as an id can be.
_LONGEST_ID = format_id(2**64 - 1)


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
    * ``max_producers``: runs of this process, each a thread; `LimitError` beyond (``producers_refused``).
    * ``ahead_bytes``: data that a run is ahead of the slowest who listens; then it waits (``producers_waited``).

    ``loops`` is the number of native threads; subscribers are spread over them, and each holds all history. ``keepalive``
    and ``send_timeout`` are seconds: of silence, and that a subscriber may stay blocked. ``retry`` is the reconnection
    time told to clients in milliseconds (None: theirs). ``drain_seconds`` is how long `drain` takes, and clients closed by
    it come back after a random time within ``drain_retry`` (milliseconds). ``io_uring``: send many in one system call where
    Linux allows it (``io_uring_loops`` in `stats`), else each by its own.

    ``authorize`` decides who may subscribe to what: it is called by each `subscribe`, with the name of every topic and the
    ``environ`` that was given, and a stream of which it refuses one is a `ForbiddenError`.

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
        max_producers: int = 100,
        ahead_bytes: int = 1 << 20,
        drain_seconds: float = 5.0,
        drain_retry: tuple[int, int] = (1000, 5000),
        io_uring: bool = True,
        authorize: Authorize | None = None,
    ) -> None:
        check_options(locals())
        self._backplane: Backplane = MemoryBackplane() if backplane is None else backplane
        self._rules = TopicRules(topics or {})
        self._retry = retry
        self._max_event_bytes = max_event_bytes
        self._max_streams = max_streams
        self._max_topics = max_topics
        self._max_stream_topics = max_stream_topics
        self._mailbox_bytes = mailbox_bytes
        self._max_producers = max_producers
        self._ahead_bytes = ahead_bytes
        #: How long `drain` takes unless told otherwise, in seconds.
        self.drain_seconds = drain_seconds
        self._drain_retry = drain_retry
        self._authorize = authorize
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
            "ring_from": _RING_FROM if io_uring else 0,
        }
        self._reset(closed=False)
        _hubs.add(self)

    def _reset(self, *, closed: bool) -> None:
        """What a process has of its own: nothing of it survives a fork."""
        joins = self._backplane.joins_processes
        self._local = Local(
            self._rules,
            self._engine_options,
            # Where others publish, their bound counts, and all that can be delivered is.
            max_frame_bytes=self._mailbox_bytes // 2 if joins else self._max_event_bytes,
            keeps_history=joins,
        )
        self._local.closed = closed
        self._producers = Producers(
            self.publish,
            self._publish_item,
            self._backplane,
            self._local,
            most=self._max_producers,
            ahead_bytes=self._ahead_bytes,
        )
        self._draining = False
        self._counts = {
            "publish_refused": 0,
            "streams_refused": 0,
            "stream_topics_refused": 0,
            "streams_resumed": 0,
            "replays_log": 0,
            "replays_backplane": 0,
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
        (nothing was published), `BackplaneError` (unknown whether it was: retry with the same key), `LimitError`,
        `HubClosedError`.
        """
        made = check_data(to_event(data, event=event, id=id, retry=retry))
        if not self._local.knows(topic):
            check_topic(topic)
        if self._backplane.joins_processes:
            self._check_size(made)
        if self._local.engine is None:
            self._start()
        try:
            return self._backplane.publish(topic, made)
        except BusyError:
            self._counts["publish_refused"] += 1
            raise

    def _publish_item(self, topic: str, event: Event, attempt: str) -> Receipt:
        # As above, for a run, whose topic is checked; and what is attempted again is published once, without a key.
        if self._backplane.joins_processes:
            self._check_size(event)
        try:
            return self._backplane.publish(topic, event, attempt=attempt)
        except BusyError:
            self._counts["publish_refused"] += 1
            raise

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        """Publish `(topic, Event)` items in order, all of them or none. Raises what `publish` raises."""
        checked: list[tuple[str, Event]] = []
        size = 0
        for topic, event in items:
            check_item(topic, event)
            if self._backplane.joins_processes:
                self._check_size(event)
            size += len(event.data or "")
            checked.append((topic, event))
        if size > self._mailbox_bytes:
            # BusyError would promise that the same batch fits later.
            raise LimitError("mailbox_bytes", self._mailbox_bytes)
        self._start()
        try:
            return self._backplane.publish_many(checked)
        except BusyError:
            self._counts["publish_refused"] += 1
            raise

    def _check_size(self, event: Event) -> None:
        # Before it is published: every process would have to refuse it afterwards.
        size = len(frame(event, _LONGEST_ID))
        if size > self._max_event_bytes:
            self._local.counts["events_refused"] += 1
            raise EventError("data", f"the framed event has {size} bytes; max_event_bytes is {self._max_event_bytes}")

    # ---- subscribe ----

    def subscribe(
        self,
        topics: str | Iterable[str],
        *,
        last_event_id: str | None = None,
        environ: Mapping[str, Any] | None = None,
        subject: str | None = None,
        expires: float | None = None,
        credential: str | None = None,
        admit: Callable[[], bool] | None = None,
        request_id: str | None = None,
    ) -> EventStream:
        """Return a WSGI body that streams `topics`, merged in the order of ids.

        ``last_event_id`` resumes after that id; ``"0-0"`` asks for all that is left; None for what comes from now on. With
        ``environ`` (WSGI) it is taken from the header ``Last-Event-ID`` or else from the query's ``last_event_id``, and a
        HEAD request gets no body. ``subject`` says who it is, for `presence`; ``request_id`` is told again by `ended`. What
        is no id of ours is answered by a gap event, never by an error: a browser cannot forget it. Of finite topics alone it
        begins with the first event that is left, and is `EventStream.over` for who has seen their last.

        At ``expires`` (seconds since 1970) the stream ends softly: its client is told when to come back, and has to be let
        in anew. ``credential`` is what it was let in with, such as a token's id, for `evict`. ``admit`` is asked once more
        when the stream begins, under a lock, so it must not wait; one that is not admitted any more ends at once, softly.

        Raises `TopicError`, `LimitError` (too many topics), `ForbiddenError` (see ``authorize``), `ConfigurationError` (no
        topic, no subject, no request id), `MultiprocessError`, `HubClosedError`.
        """
        names = self._check_topics(topics)
        if self._authorize is not None:
            for name in names:
                # Each topic, and before anything is fetched for any of them: history is let out by the same decision.
                if not self._authorize(name, environ):
                    raise ForbiddenError(name)
        return self._subscribe(
            names,
            last_event_id=last_event_id,
            environ=environ,
            admission=Admission(subject, expires, credential, admit, request_id),
        )

    def _check_topics(self, topics: str | Iterable[str]) -> tuple[str, ...]:
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        names = tuple(dict.fromkeys(check_topic(name) for name in names))
        if not names:
            raise ConfigurationError("topics: a stream needs at least one")
        if len(names) > self._max_stream_topics:
            self._counts["stream_topics_refused"] += 1
            raise LimitError("max_stream_topics", self._max_stream_topics)
        return names

    def _subscribe(
        self,
        names: tuple[str, ...],
        *,
        admission: Admission,
        environ: Mapping[str, Any] | None,
        last_event_id: str | None = None,
    ) -> EventStream:
        if self._local.closed:
            raise HubClosedError("the hub was closed")
        admission.check()
        head = False
        if environ is not None:
            self._check_multiprocess(environ)
            head = environ.get("REQUEST_METHOD") == "HEAD"
            if last_event_id is None:
                last_event_id = requested_id(environ)
        after = parse_id(last_event_id) if last_event_id else None
        unknown = bool(last_event_id) and after is None
        if not head and all(self._local.options(name).ends for name in names):
            return self._resume(names, after or 0, unknown=unknown, admission=admission)
        return EventStream(self, names, after=0 if unknown else after, unknown=unknown, head=head, admission=admission)

    def _resume(self, topics: tuple[str, ...], after: int, *, unknown: bool, admission: Admission) -> EventStream:
        """A stream of finite topics, of which a page that is loaded again is shown all (after id 0)."""
        try:
            self._start()
            rest = self._producers.rest(topics, after)
        except (BackplaneError, BusyError, LimitError):
            # Nobody knows: the stream itself is told to come back.
            rest = "some"
        if rest == "lost":
            return EventStream(self, topics, after=after, final=self._farewell())
        return EventStream(self, topics, after=after, unknown=unknown, over=rest == "none", admission=admission)

    def _farewell(self) -> bytes:
        """The whole body for who comes back to a run that went with its process.

        Not an event of the topic: anybody can ask for any name, and each would be kept. The id is one of this feed, so who
        comes back with it is told that it is over.
        """
        return frame(interrupted_event(), format_id(self._local.horizon))

    def open_stream(self, stream: EventStream) -> bytes | None:
        """The opening bytes of a stream, or None if there is no room for it. A fresh one is placed at the horizon.

        For `sse_core.stream`, which calls it once, on the first ``__next__``. Thread-safe. From here on it counts for
        ``max_streams``: until it has been adopted and has ended, or is given up.
        """
        try:
            engine = self._start()
            known = all(self._local.knows(topic) for topic in stream.topics)
            # Outside the lock: it may have to ask a server.
            self._backplane.open(stream.topics)
            self._place(stream)
        except (BackplaneError, HubClosedError, LimitError):
            # Closed between the request and the first byte: the client comes back to another process.
            self._counts["streams_refused"] += 1
            return None
        offer = current_offer()
        if offer is not None:
            offer.use(self)
        with self._local.lock:
            if self._draining or self._local.places.taken(engine) >= self._max_streams:
                self._counts["streams_refused"] += 1
                return None
            try:
                for topic in stream.topics:
                    self._local.number(topic)
            except (LimitError, BackplaneError):
                self._counts["streams_refused"] += 1
                return None
            opening = b"" if self._retry is None else b"retry: %d\n" % self._retry
            if stream.fresh:
                stream.after = self._local.horizon
                # Moves the client's cursor without an event, so that even a stream that was silent resumes exactly.
                opening += b"id: %b\n" % format_id(self._local.horizon).encode()
            elif stream.unknown or stream.after:
                self._counts["streams_resumed"] += 1
                fetched = self._backplane.joins_processes and not known
                self._counts["replays_backplane" if fetched else "replays_log"] += 1
            self._local.places.keep(stream)
        return (opening or b":\n") + b"\n"

    def _place(self, stream: EventStream) -> None:
        """Find out whether the id that a stream asks for is one of this feed."""
        after = stream.after
        if after is None or after <= self._local.born:
            return
        if not self._backplane.gave(after):
            # An id of another process's feed means nothing here, even if it lies among ours.
            stream.unknown = True
        elif after > self._local.horizon and not self._backplane.reach(after):
            stream.unknown = True

    def full(self, quotas: Mapping[str, int]) -> str | None:
        """Which of some quotas has no room for one more stream in this process; None if all have.

        A quota is a name, such as that of a client, with the most streams that there may be of it. A stream counts for
        those that were set as its `EventStream.quotas`, from the moment that its connection is handed over until it ends.
        One that comes too late then, because others came at the same time, is closed after its opening. Counted as
        ``quota_refused``.
        """
        return self._local.full(quotas)

    def evict(
        self,
        *,
        subject: str | None = None,
        credential: str | None = None,
        topics: Callable[[str], bool] | None = None,
    ) -> None:
        """End streams of this process, softly: those of a subject, of a credential, or of the topics that a function names.

        Exactly one of the three. Their clients are told when to come back, and it is the application's to refuse them then.
        A stream that is about to begin is not found yet: its ``admit`` has to know better.
        """
        if sum(each is not None for each in (subject, credential, topics)) != 1:
            raise ConfigurationError("evict: exactly one of subject, credential, topics")
        self._local.evict(subject=subject, credential=credential, topics=topics)

    def follow(self, topic: str, heard: Callable[[Event], None], lost: Callable[[], None]) -> None:
        """Call ``heard`` with each event of a topic, in their order, as long as the hub lives.

        ``lost`` is called when events may be missing (see `kept`). Both are called on the thread that delivers, under a
        lock: they must not wait, nor publish. Raises `BackplaneError`, and then it can be called again; `TopicError`,
        `LimitError`, `HubClosedError`.
        """
        check_topic(topic)
        self._start()
        self._backplane.open((topic,))
        self._local.follow(topic, heard, lost)

    def kept(self, topic: str) -> list[Event]:
        """What the backplane has of a topic, the oldest first; nothing where only this process has it.

        Raises `BackplaneError`, `TopicError`, `HubClosedError`.
        """
        check_topic(topic)
        self._start()
        return self._backplane.kept(topic)

    def refusal(self) -> bytes:
        """The whole body for a stream without room: when to come back, each at a time of its own."""
        return b"retry: %d\n\n" % random.randint(*self._drain_retry)

    def adopt(self, stream: EventStream, connection: socket.socket) -> None:
        """Give a non-blocking connection to the engine, which owns its descriptor from then on. Thread-safe.

        For `sse_core.stream` and a server's worker, after `open_stream`. On an exception (`HubClosedError`, `MemoryError`)
        the connection is still the caller's.
        """
        self._local.adopt(stream, connection)

    def give_up(self, stream: EventStream) -> None:
        """Give back the place of a stream that was opened and will not be adopted. Thread-safe; can be called twice."""
        self._local.places.give_back(stream)

    # ---- produce ----

    def produce(
        self,
        source: Source,
        *,
        topic: str | None = None,
        abort: Callable[[], object] | None = None,
        abandon_after: float | None = 30.0,
    ) -> Producer:
        """Run a generator into a finite topic, on a thread of its own. Who subscribes to `Producer.topic` gets all of it.

        ``source`` yields items (see `sse_core.items.Items`), or is called, on that thread, for what does. It ends with an
        event ``done``, whose data a dict that it returns is added to; or with ``failed``, if it raises, with the text of
        a `FailedError` or else a general one. It is closed when the run is over: at its end, when somebody stops it, and
        after ``abandon_after`` seconds without anybody listening (None: never). ``abort`` is then called, once and from
        another thread, to wake it if it waits for something. Without ``topic`` the name is a new one that nobody can guess.

        Raises `LimitError` (``max_producers``), `ConflictError` (the topic has been produced), `ConfigurationError` (the
        topic has no end), `TopicError`, `BackplaneError`, `HubClosedError`, `MultiprocessError`.
        """
        self._start_run()
        return self._producers.produce(source, topic, abort=abort, abandon_after=abandon_after)

    def stream(
        self,
        source: Source,
        environ: Mapping[str, Any],
        *,
        abort: Callable[[], object] | None = None,
        abandon_after: float | None = 30.0,
        subject: str | None = None,
        expires: float | None = None,
        credential: str | None = None,
        admit: Callable[[], bool] | None = None,
        request_id: str | None = None,
    ) -> EventStream:
        """The stream of a run that belongs to this request: a WSGI body, in place of the generator itself.

        A first request runs ``source``, as `produce` does. One that comes back, by the header ``Last-Event-ID`` to the same
        path and query, goes on with the run that the id is of, in whatever process, or is `EventStream.over`. Pass a
        function, so that nothing is made for the latter. ``authorize`` is not asked: the view has let the request have a run
        of its own. Raises what `produce` and `subscribe` do.
        """
        admission = Admission(subject, expires, credential, admit, request_id)
        admission.check()
        self._check_multiprocess(environ)
        if environ.get("REQUEST_METHOD") == "HEAD":
            return EventStream(self, (), after=None, head=True)
        self._start_run()
        request = request_key(environ, subject)
        after = parse_id(requested_id(environ) or "")
        if after:
            topic = self._producers.find(request, after)
            if topic is None:
                # To run it anew would answer half of a question twice.
                lost = self._producers.is_foreign(after)
                return EventStream(self, (), after=after, over=not lost, final=self._farewell())
            return self._subscribe((topic,), environ=environ, admission=admission)
        with self._local.lock:
            full = self._draining or self._local.places.taken(self._local.engine) >= self._max_streams
        if full:
            # It would be run for nobody, each time that the client comes back.
            self._counts["streams_refused"] += 1
            return EventStream(self, (), after=0, final=self.refusal())
        topic = self._producers.produce(source, None, abort=abort, abandon_after=abandon_after).topic
        self._producers.remember(request, topic)
        return self._subscribe((topic,), environ=environ, admission=admission)

    def progress(
        self,
        topic: str | None = None,
        total: float | None = None,
        *,
        unit: str = "it",
        interval: float = 0.1,
        abandon_after: float | None = None,
    ) -> Progress:
        """A finite topic that tells how far a job is, at most once in ``interval`` seconds; see `Progress`.

        Raises what `produce` does.
        """
        meter = ProgressMeter(total, unit=unit, interval=interval)
        self._start_run()
        return Progress(self._producers.claim(topic, abandon_after=abandon_after), meter)

    def _start_run(self) -> None:
        self._start()
        offer = current_offer()
        if offer is not None:
            # A worker that stops waits for it, and ends it, as it does with streams.
            offer.use(self)

    def stop(self, topic: str) -> bool:
        """End a run, in whatever process it is: who listens gets ``done`` with the reason ``stopped``.

        False if there is none. Raises what `publish` does.
        """
        self._start()
        return self._producers.stop(check_topic(topic))

    def production(self, topic: str) -> State | None:
        """What is known of a finite topic: ``"running"``, ``"ended"``, ``"interrupted"`` (its process is gone), or None.

        Raises `BackplaneError`, `LimitError`, `TopicError`.
        """
        self._start()
        return self._producers.state(check_topic(topic))

    @property
    def producing(self) -> int:
        """How many runs this process has."""
        return self._producers.running

    # ---- topics ----

    def topics(self) -> dict[str, dict[str, int]]:
        """The topics known to this process: for each its ``streams``, and ``events`` and ``bytes`` of history."""
        return self._local.topics()

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """Streams by topic, over all processes: of these topics, or of all that have any. Raises `BackplaneError`."""
        self._start()
        return self._backplane.audience(topics)

    def presence(self, topic: str) -> dict[str, int]:
        """Streams of a topic by ``subject``, over all processes. Raises `BackplaneError`."""
        self._start()
        return self._backplane.presence(topic)

    def workers(self) -> list[str]:
        """The processes that share the namespace, by name. Raises `BackplaneError`."""
        self._start()
        return self._backplane.workers()

    def lease(self, name: str, *, seconds: float = 5.0) -> Lease:
        """A thing that one process at a time may do. The lease is not held until `Lease.hold`."""
        return Lease(self._backplane, name, seconds=seconds)

    # ---- life ----

    def _start(self) -> Engine:
        engine = self._local.engine
        if engine is not None:
            return engine
        offer = current_offer()
        if offer is not None:
            self._check_multiprocess(offer.environ)
        return self._local.start(self._backplane)

    def _check_multiprocess(self, environ: Mapping[str, Any]) -> None:
        if environ.get("wsgi.multiprocess") and not self._backplane.joins_processes:
            raise MultiprocessError(
                "this server runs several processes, and a hub in memory would give each its own events: "
                "run one process with more threads, or give the hub a backplane that joins processes"
            )

    @property
    def namespace(self) -> str:
        """The name of the feed that this hub is part of."""
        return self._backplane.namespace

    @property
    def horizon(self) -> str:
        """The highest id up to which this process has the complete feed."""
        self._start()
        return format_id(self._local.horizon)

    @property
    def draining(self) -> bool:
        """Whether `drain` was called: no stream is accepted any more."""
        return self._draining

    @property
    def streams(self) -> int:
        """How many streams are open."""
        engine = self._local.engine
        return 0 if engine is None else engine.streams()

    def drain(self, seconds: float | None = None, *, spare: float = 0.0) -> None:
        """Begin to close all streams at an even pace within `seconds` (default: ``drain_seconds``). Returns at once.

        No run begins any more. Those that are under way, and the streams of finite topics alone, are left alone for
        ``spare`` seconds: time to end.
        """
        self._producers.refuse()
        pace = self.drain_seconds if seconds is None else seconds
        with self._local.lock:
            self._draining = True
            if self._local.engine is not None and not self._local.closed:
                self._local.engine.drain(round(pace * 1000), round(spare * 1000) if self.producing else 0)

    def is_healthy(self) -> bool:
        """Whether every loop has made a turn lately. Ask at least every few seconds, or the first answer is generous."""
        return self._local.is_healthy()

    def is_ready(self) -> bool:
        """Whether streams are accepted and events flow: not draining, not closed, and the backplane is available."""
        if self._draining or self._local.closed:
            return False
        try:
            self._start()
        except (BackplaneError, HubClosedError):
            return False
        return self._backplane.is_available()

    def is_available(self) -> bool:
        """Whether events flow, as far as the backplane is asked: of a draining hub, too."""
        return self._local.engine is not None and self._backplane.is_available()

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name, summed over the loops (`sse_core.fanout.engine.COUNTERS`) and of the hub itself."""
        engine = self._local.engine
        counters = dict.fromkeys(COUNTERS, 0) if engine is None else engine.counters()
        refused = counters["streams_refused"] + self._counts["streams_refused"]
        own = {
            **self._local.counts,
            **self._counts,
            "streams_refused": refused,
            "ends_unreported": counters["ends_unreported"] + self._local.ends_forgotten,
            "draining": int(self._draining),
        }
        return {**counters, **own, **self._producers.stats(), **self._backplane.stats()}

    def histograms(self) -> dict[str, Histogram]:
        """``latency``: from a publish in this process, or an arrival from the backplane, until the event was given to the
        sockets of its streams. ``turns``: of the loops, in which everything of theirs is done."""
        engine = self._local.engine
        if engine is None:
            return {"latency": Histogram(), "turns": Histogram()}
        return {
            name: Histogram(tuple(buckets), total, seconds)
            for name, (buckets, total, seconds) in engine.histograms().items()
        }

    def ended(self) -> list[StreamEnd]:
        """The streams that ended since the last call. The first call begins the account, or a stream with a ``request_id``.

        16,384 wait; what did not fit is counted as ``ends_unreported``. Thread-safe; each end is told once. Nothing is
        started by it, and it can be called after `close`.
        """
        return self._local.ended()

    def close(self) -> None:
        """End all runs, streams and threads. Further calls raise `HubClosedError`; `stats` still answers."""
        # First, while their ends can be published.
        self._producers.close()
        # Before the lock: a publisher that holds the backplane's own may be waiting for ours.
        self._backplane.close()
        local = self._local
        with local.lock:
            if local.closed:
                return
            local.closed = True
        # Once more: a thread may have been about to start it.
        self._backplane.close()
        if local.engine is not None:
            local.engine.stop()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The threads of the engine do not exist here, and the lock may have been held by one that does not either.
    for hub in _hubs:
        hub._reset(closed=hub._local.closed)


os.register_at_fork(after_in_child=_after_fork_in_child)
