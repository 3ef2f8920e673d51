"""`FiniteTopics`: the topics of one process that have an end, and whether it has come."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice

from sse_core.event import Event
from sse_core.topics import LAST_EVENTS


class FiniteTopics:
    """What is known of the open finite topics. Under the lock of its owner, but for `newest` and `end`."""

    def __init__(self) -> None:
        #: The ids of a topic's events, of those that are left at least; every open finite topic is in it.
        self.ids: dict[str, array[int]] = {}
        #: The ids of last events, of the topics that have ended.
        self.ends: dict[str, int] = {}
        #: The topics that have not.
        self.unended: set[str] = set()

    def open(self, topic: str) -> None:
        """Take a topic up."""
        self.ids[topic] = array("Q")
        self.unended.add(topic)

    def close(self, topic: str) -> None:
        """Know nothing of a topic any more; of one that is not finite that is so already."""
        self.ids.pop(topic, None)
        self.ends.pop(topic, None)
        self.unended.discard(topic)

    def note(self, topic: str, number: int, event: Event, most: int) -> bool:
        """Note an event of an open topic that has not ended, whose history holds ``most``: True if it is its end."""
        ids = self.ids[topic]
        ids.append(number)
        if len(ids) > 2 * most:
            del ids[: len(ids) // 2]
        if event.event not in LAST_EVENTS:
            return False
        self.ends[topic] = number
        self.unended.discard(topic)
        return True

    def forget(self, topic: str, floor: int) -> None:
        """Know of a topic only that it has begun, if it has: up to ``floor`` something of it is lost."""
        ids = self.ids.get(topic)
        if ids is not None:
            # Clients are told that id with the gap, and come back with it.
            self.ids[topic] = array("Q", [floor] if ids else [])
            self.ends.pop(topic, None)
            self.unended.add(topic)

    def lose(self, topic: str, number: int) -> None:
        """Note that a topic has begun, though nothing is left of it: with the id of an event that is lost."""
        if topic in self.ids and not self.ids[topic]:
            self.ids[topic].append(number)

    def until_end(self, items: Sequence[tuple[str, int, Event]]) -> Sequence[tuple[str, int, Event]]:
        """Without those that come after the end of their topic, whether that is among them or was noted before."""
        ended: set[str] = set()
        kept = []
        for item in items:
            topic, _, event = item
            if topic in self.ids:
                if topic in self.ends or topic in ended:
                    continue
                if event.event in LAST_EVENTS:
                    ended.add(topic)
            kept.append(item)
        return kept

    def newest(self, topic: str) -> int:
        """The id of the newest event, or of one that is lost; 0 if none is known."""
        ids = self.ids.get(topic)
        return ids[-1] if ids else 0

    def end(self, topic: str) -> int:
        """The id of the last event of a topic that has ended; 0 if it has not, or nothing is known of it."""
        return self.ends.get(topic, 0)

    def has(self, topic: str, number: int) -> bool:
        """Whether an event of the topic has this id."""
        ids = self.ids.get(topic, array("Q"))
        place = bisect_left(ids, number)
        return place < len(ids) and ids[place] == number

    def some_ended(self, most: int) -> list[str]:
        """At most so many topics that have ended. Each has its turn before any has it again."""
        some = list(islice(self.ends, most))
        for topic in some:
            self.ends[topic] = self.ends.pop(topic)
        return some
