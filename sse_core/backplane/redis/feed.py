"""`Feed`: one order out of what arrives live and what is fetched. It knows no connection and no thread.

Rules, from which exact resume follows:

1. A topic is *complete* up to an id: all of its events up to there were delivered, or wait in `_pending`, where a lost
   connection may forget them: what lies above the horizon is fetched again.
2. The *horizon* is the id up to which all topics were delivered. Everything is delivered in the order of ids, whatever
   the topic, and moves the horizon. A beat (the namespace's clock, told on a channel of its own) moves it, too: what
   came before the beat came before it on the same connection.
3. A topic that is filled is complete up to the clock that was read after its subscription. What of it lies above the
   horizon waits in `_pending` until the live feed of the other topics has come that far.
4. Every event names its predecessor in its topic. A predecessor above what is complete is a hole: then, and after each
   lost connection, all topics are fetched up to one clock and delivered merged, before anything else.
5. What cannot be fetched any more is told: the topic's log begins anew at its floor, and its streams get a gap.
6. An event that names a predecessor older than the newest one delivered is not of this feed: a primary that slept through
   its fail-over has carried out what waited for it. Redis, as it is now, decides.
7. A namespace that was born anew, or whose clock went back, is another feed: all logs begin anew, all streams get a gap.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, Protocol

from sse_core.backplane import Beginning, Reason, Receiver
from sse_core.backplane.redis.commands import Clock, History, Wanted
from sse_core.backplane.redis.message import Entry
from sse_core.errors import EventError, LimitError
from sse_core.event import Event

#: Events delivered at once while catching up; a hub's mailbox must have room for them together.
_CHUNK = 128

_P = ParamSpec("_P")

#: An event in the order of its id. None: it cannot be delivered, or (a floor) what is up to here is lost.
_Step = tuple[int, str, Event | None]


class Source(Protocol):
    """Where a feed asks. Errors go through to the caller of the feed, whose state is then as before."""

    def clock(self) -> Clock:
        """The namespace's clock, moved to the present and told to all as a beat."""

    def history(self, wanted: Sequence[Wanted], until: int) -> list[History]:
        """What is kept of the topics up to the id `until`."""


class Feed:
    """The feed of one namespace in one process; one thread at a time.

    ``pause`` is called while the receiver has no room, and may raise to give up.
    """

    def __init__(self, receiver: Receiver, source: Source, pause: Callable[[], None]) -> None:
        self._receiver = receiver
        self._source = source
        self._pause = pause
        self._born = 0
        self._complete: dict[str, int] = {}
        # Of each topic the newest event that was delivered, by its id.
        self._newest: dict[str, int] = {}
        # A heap. No two events have one id, so topics and events are never compared.
        self._pending: list[_Step] = []
        self.horizon = 0
        self.counts = self.none()

    @staticmethod
    def none() -> dict[str, int]:
        """The counters of a feed that has not begun."""
        return {
            "backplane_duplicates": 0,
            "backplane_holes": 0,
            "backplane_forks": 0,
            "backplane_catch_ups": 0,
            "backplane_restarts": 0,
            "backplane_fetches": 0,
            "backplane_fetched_events": 0,
            "backplane_undeliverable": 0,
        }

    def begin(self) -> Beginning:
        """Join the feed at its present clock."""
        clock = self._source.clock()
        self._born, self.horizon = clock.born, clock.last
        return Beginning(clock.born, clock.last)

    @property
    def topics(self) -> list[str]:
        """The topics that are complete here."""
        return list(self._complete)

    def has(self, topic: str) -> bool:
        """Whether a topic is complete here. Any thread may ask."""
        return topic in self._complete

    # ---- what arrives ----

    def live(self, topic: str, entries: Sequence[Entry]) -> None:
        """One message: consecutive events of a topic."""
        complete = self._complete.get(topic)
        if complete is None:
            # It was left, or its subscription is not confirmed yet and the fill will have it.
            return
        if entries[0].number <= complete:
            known = len(entries)
            entries = [entry for entry in entries if entry.number > complete]
            self.counts["backplane_duplicates"] += known - len(entries)
            if not entries:
                return
        before = entries[0].before
        if before < self._newest.get(topic, 0) and before != self._born:
            self.counts["backplane_forks"] += 1
            self.catch_up()
            return
        if before > complete:
            self.counts["backplane_holes"] += 1
            if before > self.horizon:
                self.catch_up()
                return
            # Something that a beat has already declared complete. It cannot be put back into the order, only be told.
            self._receiver.forget(topic, self.horizon, "overflow")
        if entries[0].number <= self.horizon:
            # Given below a clock that was told already.
            self.catch_up(clock_went_back=True)
            return
        last = entries[-1].number
        steps: list[_Step] = [(entry.number, topic, entry.event) for entry in entries]
        if self._pending and self._pending[0][0] < last:
            steps = sorted([*self._take_pending(last), *steps])
        self._deliver(steps)
        self._complete[topic] = last

    def beat(self, clock: Clock) -> None:
        """The namespace's clock, as told on its channel."""
        if clock.born != self._born:
            self.catch_up()
        elif clock.last < self.horizon:
            # One that was under way while this process caught up, or a clock that went back.
            if self._source.clock().last < self.horizon:
                self.catch_up()
        else:
            self._advance(clock.last)

    # ---- what is fetched ----

    def fill(self, topics: Iterable[str]) -> dict[str, LimitError]:
        """Take up topics whose subscriptions are confirmed; return those that the receiver has no place for."""
        new = [topic for topic in dict.fromkeys(topics) if topic not in self._complete]
        if not new:
            return {}
        clock = self._source.clock()
        if clock.born != self._born or clock.last < self.horizon:
            self.catch_up()
            clock = self._source.clock()
        refused: dict[str, LimitError] = {}
        for topic, history in zip(new, self._fetch([(topic, 0) for topic in new], clock.last), strict=True):
            floor = history.floor
            known = [(entry.number, entry.event) for entry in history.entries if entry.number <= self.horizon]
            try:
                self._until_room(self._receiver.fill, topic, floor, known)
            except LimitError as error:
                refused[topic] = error
                continue
            except EventError:
                # One of them is larger than this process can take: it is as good as trimmed.
                self.counts["backplane_undeliverable"] += len(known)
                floor = max(floor, known[-1][0])
                self._until_room(self._receiver.fill, topic, floor, [])
            for entry in history.entries:
                if entry.number > max(self.horizon, floor):
                    heapq.heappush(self._pending, (entry.number, topic, entry.event))
            self._complete[topic] = clock.last
            self._newest[topic] = known[-1][0] if known else 0
        return refused

    def catch_up(self, *, clock_went_back: bool = False) -> None:
        """Fetch what all topics lack up to now, and deliver it in one order. All subscriptions are confirmed."""
        self.counts["backplane_catch_ups"] += 1
        clock = self._source.clock()
        if clock.born != self._born:
            self._restart(clock, clock.born)
        elif clock_went_back or clock.last < self.horizon:
            # Nobody can say what was given between the two.
            self._restart(clock, clock.last)
        topics = self.topics
        # From the horizon on, whatever waits already: it is what was delivered, even if the last attempt broke off.
        histories = self._fetch([(topic, self.horizon) for topic in topics], clock.last)
        self._pending.clear()
        steps: list[_Step] = []
        for topic, history in zip(topics, histories, strict=True):
            if history.floor > self.horizon:
                steps.append((history.floor, topic, None))
            steps += ((entry.number, topic, entry.event) for entry in history.entries)
        # A floor may be a mere time, and then the id of an event in another topic, too: that one goes first, as the floor
        # moves the horizon up to itself. And two topics that lost everything may have the same floor.
        steps.sort(key=lambda step: (step[0], step[2] is None, step[1]))
        self._deliver(steps)
        self._complete = dict.fromkeys(topics, clock.last)
        self._advance(clock.last)

    def leave(self, topic: str) -> bool:
        """Close a topic that nobody listens to: False if somebody does."""
        if not self._receiver.leave(topic):
            return False
        del self._complete[topic], self._newest[topic]
        self._pending = [step for step in self._pending if step[1] != topic]
        heapq.heapify(self._pending)
        return True

    def _fetch(self, wanted: Sequence[tuple[str, int]], until: int) -> list[History]:
        bounds = [(topic, after, self._receiver.options(topic)) for topic, after in wanted]
        histories = self._source.history(
            [
                Wanted(topic, after, options.history_events, options.history_bytes, round(options.history_age * 1000))
                for topic, after, options in bounds
            ],
            until,
        )
        self.counts["backplane_fetches"] += len(histories)
        self.counts["backplane_fetched_events"] += sum(len(history.entries) for history in histories)
        return histories

    def _restart(self, clock: Clock, horizon: int) -> None:
        self.counts["backplane_restarts"] += 1
        self._pending.clear()
        self._receiver.restart(clock.born, horizon)
        self._born, self.horizon = clock.born, horizon
        self._complete = dict.fromkeys(self._complete, horizon)
        self._newest = dict.fromkeys(self._complete, 0)

    # ---- delivering ----

    def _advance(self, clock: int) -> None:
        if self._pending and self._pending[0][0] <= clock:
            self._deliver(self._take_pending(clock))
        if clock > self.horizon:
            self.horizon = clock
            self._receiver.advance(clock)

    def _take_pending(self, until: int) -> list[_Step]:
        taken = []
        while self._pending and self._pending[0][0] <= until:
            taken.append(heapq.heappop(self._pending))
        return taken

    def _deliver(self, steps: Sequence[_Step]) -> None:
        """Deliver in the given order, and move the horizon; where there is no event, its topic begins anew and is told so."""
        batch: list[tuple[str, int, Event]] = []
        for number, topic, event in steps:
            self._newest[topic] = number
            if event is not None:
                batch.append((topic, number, event))
                if len(batch) < _CHUNK:
                    continue
            self._deliver_batch(batch)
            batch = []
            if event is None:
                self._forget(topic, number, "trimmed")
        self._deliver_batch(batch)

    def _deliver_batch(self, batch: list[tuple[str, int, Event]]) -> None:
        if not batch:
            return
        try:
            self._until_room(self._receiver.deliver_many, batch)
            self.horizon = batch[-1][1]
        except EventError:
            for topic, number, event in batch:
                try:
                    self._until_room(self._receiver.deliver, topic, number, event)
                    self.horizon = number
                except EventError:
                    # Larger than this process can ever take: a loss, and told as one.
                    self.counts["backplane_undeliverable"] += 1
                    self._forget(topic, number, "overflow")

    def _forget(self, topic: str, number: int, reason: Reason) -> None:
        self._receiver.forget(topic, number, reason)
        # All up to there was delivered or told. A client that comes back with the gap's id must find it known.
        self._receiver.advance(number)
        self.horizon = number

    def _until_room(self, attempt: Callable[_P, bool], *arguments: _P.args, **options: _P.kwargs) -> None:
        while not attempt(*arguments, **options):
            self._pause()
