"""`Local`: one process's part of a namespace, which its backplane delivers to. The engine, its topics, the horizon."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sse_core.backplane import Backplane, Reason
from sse_core.errors import BackplaneError, EventError, HubClosedError, LimitError, SSEError
from sse_core.event import Event
from sse_core.fanout.engine import Engine
from sse_core.finite import FiniteTopics
from sse_core.framing import frame
from sse_core.ids import format_id
from sse_core.places import Places
from sse_core.roster import Roster
from sse_core.stream import EventStream
from sse_core.telemetry import Ends, StreamEnd
from sse_core.topics import TopicOptions, TopicRules

#: A loop makes a turn each second at least; a loop that makes none for so long (seconds) is stuck.
_STUCK_AFTER = 10.0
#: Streams that begin between two looks at who has left, at most; the engine keeps as many ends as above.
_COLLECT_EVERY = 1024
#: Seconds that a loop may take to find out how far streams are, and between two looks at whether it has.
_MEASURING = 0.5
_PAUSE = 0.002
#: Seconds that a thread waits for another one that is connecting.
_STARTING = 1.0
#: Topics looked at in one sweep: there may be very many, and whoever publishes waits for it.
_SWEPT = 2000


class Local:
    """What a hub has of its own in one process; nothing of it survives a fork. Thread-safe.

    ``engine`` are the options of `Engine`. ``max_frame_bytes``: a larger framed event can never be delivered.
    ``keeps_history``: the backplane does, and opens topics by `fill`; else they are opened when first named.
    """

    def __init__(
        self,
        rules: TopicRules,
        engine: dict[str, Any],
        *,
        max_frame_bytes: int,
        keeps_history: bool,
    ) -> None:
        self._rules = rules
        self._engine_options = engine
        self._max_topics: int = engine["max_topics"]
        self._max_frame_bytes = max_frame_bytes
        self._keeps_history = keeps_history
        self.lock = threading.RLock()
        self._starting = threading.Lock()
        self.engine: Engine | None = None
        self.closed = False
        self.born = 0
        self.horizon = 0
        self.counts = {"events_refused": 0, "events_after_end": 0, "quota_refused": 0, "topics_refused": 0}
        self._floor = 0
        self._numbers: dict[str, int] = {}
        #: Those of the topics that have an end. Under the lock.
        self.finite = FiniteTopics()
        #: Called with the name of a finite topic that has ended, under the lock: it must not wait.
        self.on_end: Callable[[str], None] | None = None
        self._free_numbers: list[int] = []
        self._streams = 0
        self._beats: list[tuple[int, float]] = []
        self._roster = Roster()
        # Topics that this process itself listens to: what to call with an event, and what when some were lost.
        self._followers: dict[str, list[tuple[Callable[[Event], None], Callable[[], None]]]] = {}
        #: None until somebody wants to hear of ends.
        self._ends: Ends | None = None
        self._collects = False
        self.places = Places()

    def start(self, backplane: Backplane) -> Engine:
        """Join the feed. Raises `BackplaneError`, and then it can be called again."""
        # Not the lock of everything: it can take as long as a server takes not to answer, and who only asks for numbers
        # must not wait. Nor must all threads of a server.
        if not self._starting.acquire(timeout=_STARTING):
            raise BackplaneError(1.0, "the backplane is being connected")
        try:
            if self.engine is None:
                self._start(backplane)
            return self.running()
        finally:
            self._starting.release()

    def _start(self, backplane: Backplane) -> None:
        if self.closed:
            raise HubClosedError("the hub was closed")
        beginning = backplane.start(self)
        with self.lock:
            if self.closed:
                raise HubClosedError("the hub was closed")
            self.born, self.horizon = beginning
            self._floor = self.horizon
            engine = Engine(born=self.born, **self._engine_options)
            engine.advance(self.horizon)
            self.engine = engine
            self._collects = False
        try:
            backplane.listen()
        except BaseException as error:
            backplane.close()
            self.engine = None
            engine.stop()
            if isinstance(error, OSError | RuntimeError) and not isinstance(error, SSEError):
                # No descriptor or no thread is left: another time there may be.
                raise BackplaneError(1.0, f"this process has no room to listen: {error}") from error
            raise
        if self.closed:
            # Meanwhile, by another thread.
            backplane.close()

    def running(self) -> Engine:
        """The engine. Raises `HubClosedError`."""
        if self.engine is None or self.closed:
            raise HubClosedError("the hub was closed")
        return self.engine

    # ---- from the backplane: see `sse_core.backplane.Receiver` ----

    def options(self, topic: str) -> TopicOptions:
        """See `Receiver.options`."""
        return self._rules.options(topic)

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        """See `Receiver.deliver`."""
        with self.lock:
            slot = self._numbers.get(topic)
            if slot is None:
                slot = self.number(topic)
            is_finite = topic in self.finite.ids
            if is_finite and topic in self.finite.ends:
                self._drop(1, number)
                return True
            if not self.running().append(slot, number, self._frame(number, event)):
                return False
            self.horizon = number
            if is_finite:
                self._note(topic, number, event)
            if self._followers:
                self._tell([(topic, event)])
            return True

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        """See `Receiver.deliver_many`."""
        with self.lock:
            framed = [(self.number(topic), number, self._frame(number, event)) for topic, number, event in items]
            # All of them, almost always.
            kept = self.finite.until_end(items) if self.finite.ids else items
            if len(kept) < len(items):
                numbers = {number for _, number, _ in kept}
                framed = [each for each in framed if each[1] in numbers]
            # A backplane has nobody to refuse it to: it comes alone, if it must.
            done = self.running().append_many(framed, alone=self._keeps_history)
            if done:
                self.horizon = items[-1][1]
                for topic, number, event in kept if self.finite.ids else ():
                    if topic in self.finite.ids:
                        self._note(topic, number, event)
                if len(kept) < len(items):
                    self._drop(len(items) - len(kept), self.horizon)
                if self._followers:
                    self._tell([(topic, event) for topic, _, event in items])
            return done

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """See `Receiver.audience`."""
        with self.lock:
            engine = self.engine
            if engine is None or self.closed:
                return {}
            chosen = self._numbers if topics is None else [topic for topic in topics if topic in self._numbers]
            return {topic: engine.topic_state(self._numbers[topic])[0] for topic in chosen}

    def presence(self, topic: str | None = None) -> dict[tuple[str, str], int]:
        """See `Receiver.presence`."""
        with self.lock:
            if self._roster:
                self._collect_ends()
            return self._roster.presence(topic)

    def presence_changes(self) -> dict[tuple[str, str], int]:
        """See `Receiver.presence_changes`."""
        with self.lock:
            if self._roster:
                self._collect_ends()
            return self._roster.changes()

    def fill(self, topic: str, floor: int, items: Sequence[tuple[int, Event]]) -> bool:
        """See `Receiver.fill`."""
        with self.lock:
            # Framed first: one that is too large must not leave an open topic behind.
            framed = [(number, self._frame(number, event)) for number, event in items]
            slot = self._open(topic, floor)
            kept = self.finite.until_end([(topic, number, event) for number, event in items])
            # It ends once: what is left out comes after all that is kept.
            frames = [(slot, number, each) for number, each in framed[: len(kept)]]
            if self.running().append_many(frames, history=True, alone=True):
                self.counts["events_after_end"] += len(items) - len(kept)
                if topic in self.finite.ids:
                    for _, number, event in kept:
                        self._note(topic, number, event)
                return True
            self._close(topic)
            return False

    def advance(self, horizon: int) -> None:
        """See `Receiver.advance`."""
        with self.lock:
            if horizon > self.horizon:
                self.horizon = horizon
                self.running().advance(horizon)

    def forget(self, topic: str, floor: int, reason: Reason) -> None:
        """See `Receiver.forget`."""
        with self.lock:
            self.running().forget(self._numbers[topic], floor, reason)
            self.finite.forget(topic, floor)
            if topic in self._followers:
                self._tell_lost([topic])

    def restart(self, born: int, horizon: int) -> None:
        """See `Receiver.restart`."""
        with self.lock:
            engine = self.running()
            for topic, slot in self._numbers.items():
                engine.forget(slot, horizon, "restart")
                self.finite.forget(topic, horizon)
            engine.restart(born, horizon)
            self.born, self.horizon = born, horizon
            self._tell_lost(self._followers)

    def leave(self, topic: str) -> bool:
        """See `Receiver.leave`."""
        with self.lock:
            streams, _, _, settled = self.running().topic_state(self._numbers[topic])
            if streams or not settled or topic in self._followers:
                return False
            self._close(topic)
            return True

    def follow(self, topic: str, heard: Callable[[Event], None], lost: Callable[[], None]) -> None:
        """See `Hub.follow`."""
        with self.lock:
            # Now, and not with its first event: by then others may have taken all the room that there is for topics.
            self.number(topic)
            self._followers.setdefault(topic, []).append((heard, lost))

    def _tell(self, items: Sequence[tuple[str, Event]]) -> None:
        for topic, event in items:
            for heard, _ in self._followers.get(topic, ()):
                heard(event)

    def _tell_lost(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for _, lost in self._followers[topic]:
                lost()

    def _note(self, topic: str, number: int, event: Event) -> None:
        """Note an event of a finite topic; it may be the last."""
        if self.finite.note(topic, number, event, self._rules.options(topic).history_events):
            self.running().end_topic(self._numbers[topic])
            if self.on_end is not None:
                self.on_end(topic)

    def _drop(self, count: int, number: int) -> None:
        """Give events up to id ``number`` to nobody: their topics had ended, and clients rely on the last event."""
        self.counts["events_after_end"] += count
        self.horizon = number
        self.running().advance(number)

    def _frame(self, number: int, event: Event) -> bytes:
        framed = frame(event, format_id(number))
        if len(framed) > self._max_frame_bytes:
            self.counts["events_refused"] += 1
            raise EventError(
                "data", f"the framed event has {len(framed)} bytes; max_event_bytes is {self._max_frame_bytes}"
            )
        return framed

    # ---- topics ----

    def number(self, topic: str) -> int:
        """The engine's number for a topic. Under the lock. Raises `LimitError`, or `BackplaneError` if it was left again."""
        number = self._numbers.get(topic)
        if number is not None:
            return number
        if self._keeps_history:
            raise BackplaneError(1.0, f"the topic {topic!r} is not open in this process any more")
        return self._open(topic, self._floor)

    def _open(self, topic: str, floor: int) -> int:
        engine = self.running()
        if not self._free_numbers and len(self._numbers) >= self._max_topics and not self._keeps_history:
            self._close_idle(engine)
        if self._free_numbers:
            number = self._free_numbers.pop()
        elif len(self._numbers) < self._max_topics:
            number = len(self._numbers)
        else:
            self.counts["topics_refused"] += 1
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
            floor=floor,
            finite=options.ends,
        )
        self._numbers[topic] = number
        if options.ends:
            self.finite.open(topic)
        return number

    def _close(self, topic: str) -> None:
        number = self._numbers.pop(topic)
        self.finite.close(topic)
        self.running().close_topic(number)
        self._free_numbers.append(number)

    def _close_idle(self, engine: Engine) -> None:
        """Close topics without history and subscribers. One that comes back cannot know what it had, so its floor rises."""
        states = (
            (topic, engine.topic_state(number))
            for topic, number in self._numbers.items()
            if topic not in self._followers
        )
        idle = [topic for topic, (streams, events, _, settled) in states if settled and not streams and not events]
        for topic in idle:
            self._close(topic)
        if idle:
            self._floor = self.horizon

    def knows(self, topic: str) -> bool:
        """Whether the topic is open here."""
        return topic in self._numbers

    def topics(self) -> dict[str, dict[str, int]]:
        """The topics of this process: for each its ``streams``, and ``events`` and ``bytes`` of history."""
        with self.lock:
            if self.engine is None or self.closed:
                return {}
            states = {topic: self.engine.topic_state(number) for topic, number in self._numbers.items()}
        return {topic: {"streams": state[0], "events": state[1], "bytes": state[2]} for topic, state in states.items()}

    # ---- finite topics ----

    def unended(self) -> list[str]:
        """The finite topics that have streams here and have not ended."""
        with self.lock:
            if self.engine is None or self.closed:
                return []
            return [topic for topic in self.finite.unended if self.engine.topic_state(self._numbers[topic])[0]]

    def sweep(self) -> None:
        """Close finite topics that have ended and of which nothing is left: there may be one for every answer ever given."""
        with self.lock:
            if self.engine is None or self.closed or self._keeps_history:
                # A backplane that keeps the history leaves topics by itself.
                return
            states = [
                (topic, self.engine.topic_state(self._numbers[topic])) for topic in self.finite.some_ended(_SWEPT)
            ]
            idle = [topic for topic, (streams, events, _, settled) in states if settled and not streams and not events]
            for topic in idle:
                self._close(topic)
            if idle:
                self._floor = self.horizon

    def sent(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """See `Receiver.sent`."""
        with self.lock:
            engine = self.engine
            if engine is None or self.closed:
                return {}
            chosen = self.unended() if topics is None else [each for each in topics if each in self.finite.unended]
            numbers = {topic: self._numbers[topic] for topic in chosen}
            for number in numbers.values():
                engine.measure(number)
        deadline = time.monotonic() + _MEASURING
        while True:
            with self.lock:
                if self.closed:
                    return {}
                # By the name again: it may have been left meanwhile, and its number be another topic's.
                found = {topic: number for topic, number in numbers.items() if self._numbers.get(topic) == number}
                states = [engine.topic_state(number) for number in found.values()]
                if all(settled for *_, settled in states) or time.monotonic() > deadline:
                    told = {topic: engine.sent(number) for topic, number in found.items()}
                    return {topic: number for topic, number in told.items() if number is not None}
            time.sleep(_PAUSE)

    # ---- streams ----

    def adopt(self, stream: EventStream, connection: socket.socket) -> None:
        """Give a non-blocking connection to the engine. On an exception it is still the caller's."""
        with self.lock:
            engine = self.running()
            full = self.full(stream.quotas)
            if full is not None:
                raise LimitError(full, stream.quotas[full])
            numbers = [self.number(topic) for topic in stream.topics]
            self._streams += 1
            request_id = stream.admission.request_id
            if request_id is not None and self._ends is None:
                self._ends = Ends()
            wanted = stream.admission.is_known or stream.quotas or self._roster or self._ends is not None
            if wanted and (not self._collects or self._streams % _COLLECT_EVERY == 0):
                # It begins the account of ends, before this stream can end.
                self._collect_ends()
            self._roster.enter(self._streams, stream.admission, stream.topics, stream.quotas)
            try:
                # After this line exactly one owner is left; a failure above leaves the connection with the caller.
                engine.adopt(
                    connection.fileno(),
                    self._streams,
                    numbers,
                    stream.after or 0,
                    stream.fresh,
                    stream.unknown,
                    stream.admission.milliseconds_left(),
                    (request_id or "").encode(),
                )
            except BaseException:
                self._roster.leave(self._streams)
                raise
            connection.detach()
            self.places.give_back(stream)

    def full(self, quotas: Mapping[str, int]) -> str | None:
        """See `Hub.full`."""
        with self.lock:
            full = self._roster.full(quotas)
            if full is not None and not self.closed:
                self._collect_ends()
                full = self._roster.full(quotas)
            self.counts["quota_refused"] += full is not None
            return full

    def evict(self, *, subject: str | None, credential: str | None, topics: Callable[[str], bool] | None) -> None:
        """See `Hub.evict`."""
        with self.lock:
            engine = self.engine
            if engine is None or self.closed:
                return
            if topics is not None:
                for topic in [topic for topic in self._numbers if topics(topic)]:
                    engine.evict_topic(self._numbers[topic])
                return
            if self._roster:
                self._collect_ends()
                engine.evict(self._roster.find(subject=subject, credential=credential))

    def _collect_ends(self) -> None:
        assert self.engine is not None
        self._collects = True
        ends = [
            StreamEnd(number, reason, seconds, events, size, self._roster.leave(number), request_id)
            for number, reason, seconds, events, size, request_id in self.engine.ended()
        ]
        if self._ends is not None:
            self._ends.add(ends)

    def ended(self) -> list[StreamEnd]:
        """See `Hub.ended`."""
        with self.lock:
            if self._ends is None:
                self._ends = Ends()
            if self.engine is not None:
                self._collect_ends()
            return self._ends.take()

    @property
    def ends_forgotten(self) -> int:
        """Ends that nobody has asked for in time."""
        return 0 if self._ends is None else self._ends.forgotten

    # ---- life ----

    def is_healthy(self) -> bool:
        """Whether every loop has made a turn lately."""
        engine = self.engine
        if engine is None or self.closed:
            return True
        now = time.monotonic()
        before = self._beats or [(-1, now)] * self._engine_options["loops"]
        self._beats = [
            (beat, now if beat != seen else since)
            for beat, (seen, since) in zip(engine.heartbeats(), before, strict=True)
        ]
        return all(now - since < _STUCK_AFTER for _, since in self._beats)
