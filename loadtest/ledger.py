"""What one stream was owed and what it got: lost, duplicate and disordered events, counted by source and topic.

A source numbers its events in a topic, one after the other, and publishes the next only when the one before was answered.
So the order of numbers is the order in which any server has got them, and whatever a stream receives can be judged
without knowing its server's ids. `sse_core.testing.Ledger` judges by the hub's own ids; this one by what was put in.
It keeps ranges and no events: a stream costs the same after an hour as after a minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Fault = Literal["duplicate", "disorder", "misdelivered"]
#: A source's number and a topic.
Place = tuple[int, str]
EXAMPLES = 5


class Final(NamedTuple):
    """What a source has published into a topic at the end."""

    #: The highest number whose publishing was answered with success.
    last: int
    #: Numbers of which nobody knows whether they were published: their requests were not answered with success.
    unknown: frozenset[int] = frozenset()


@dataclass
class Losses:
    """What never came. ``told`` is the part that the server itself had announced, by a gap event."""

    silent: int = 0
    told: int = 0
    #: Of the silent ones, in words.
    examples: list[str] = field(default_factory=list)

    def add(self, other: Losses) -> None:
        """Count those of another stream."""
        self.silent += other.silent
        self.told += other.told
        self.examples = (self.examples + other.examples)[:EXAMPLES]


class _Cursor:
    """One source in one topic: the number that comes next, and ranges (first, after the last, told) that did not come."""

    __slots__ = ("first", "holes", "next", "told")

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.holes: list[tuple[int, int, bool]] = []
        self.told = False

    def take(self, number: int) -> Fault | None:
        if number == self.next:
            self.next += 1
            self.told = False
            return None
        if number > self.next:
            self.holes.append((self.next, number, self.told))
            self.next = number + 1
            self.told = False
            return None
        at = bisect_right(self.holes, number, key=lambda hole: hole[0]) - 1
        if at >= 0 and number < self.holes[at][1]:
            first, end, told = self.holes[at]
            rest = [(first, number, told), (number + 1, end, told)]
            self.holes[at : at + 1] = [hole for hole in rest if hole[0] < hole[1]]
            return "disorder"
        return "disorder" if number < self.first else "duplicate"


class StreamLedger:
    """One stream, over all its reconnections. ``from_start``: it was there before the first event, so it is owed all."""

    def __init__(self, name: str, topics: Iterable[str], *, from_start: bool) -> None:
        self.name = name
        self.topics = frozenset(topics)
        self.from_start = from_start
        #: It was ended on purpose: what came after its last event is not owed.
        self.is_closed = False
        self._cursors: dict[Place, _Cursor] = {}
        self._told: set[str] = set()
        self._silent = set(self.topics)

    @property
    def is_ready(self) -> bool:
        """Whether something has come of each of its topics, so that it is known to be subscribed to all."""
        return not self._silent

    def marked(self, source: int, topic: str, following: int) -> None:
        """Note a mark: the source's next event in the topic has this number."""
        self._silent.discard(topic)
        if topic in self.topics and (source, topic) not in self._cursors:
            self._cursors[source, topic] = self._new(following, topic)

    def received(self, source: int, topic: str, number: int) -> Fault | None:
        """Note an event, and return what is wrong with it."""
        cursor = self._cursors.get((source, topic))
        if cursor is None:
            if topic not in self.topics:
                return "misdelivered"
            self._silent.discard(topic)
            cursor = self._cursors[source, topic] = self._new(1 if self.from_start else number, topic)
        return cursor.take(number)

    def _new(self, first: int, topic: str) -> _Cursor:
        cursor = _Cursor(first)
        cursor.told = topic in self._told
        return cursor

    def gap(self, topic: str | None) -> None:
        """Note that the server has announced a loss in a topic, or, if it does not say where, in all of them."""
        for each in self.topics if topic is None else (topic,):
            self._told.add(each)
        for (_, place), cursor in self._cursors.items():
            if topic is None or place == topic:
                cursor.told = True

    def is_behind(self, finals: Mapping[Place, Final]) -> bool:
        """Whether something that was answered is still to come, as far as its ends tell."""
        if self.is_closed:
            return False
        for place, final in finals.items():
            if place[1] not in self.topics:
                continue
            cursor = self._cursors.get(place)
            if cursor is None:
                if self.from_start and final.last > 0:
                    return True
            elif cursor.next <= final.last:
                return True
        return False

    def losses(self, finals: Mapping[Place, Final]) -> Losses:
        """Return what never came of what the sources have published by now."""
        found = Losses()
        for place, final in finals.items():
            if place[1] not in self.topics:
                continue
            cursor = self._cursors.get(place) or (self._new(1, place[1]) if self.from_start else None)
            if cursor is None:
                continue
            holes = list(cursor.holes)
            if not self.is_closed and cursor.next <= final.last:
                holes.append((cursor.next, final.last + 1, cursor.told))
            for first, end, told in holes:
                count = end - first - _within(final.unknown, first, end)
                if told:
                    found.told += count
                elif count:
                    found.silent += count
                    what = f"event {first}" if end == first + 1 else f"events {first} to {end - 1}"
                    found.examples.append(f"stream {self.name}, topic {place[1]}, source {place[0]}: {what}")
        del found.examples[EXAMPLES:]
        return found


def _within(numbers: Collection[int], first: int, end: int) -> int:
    return sum(1 for number in numbers if first <= number < end)
