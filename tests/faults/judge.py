"""Compares what was published with what every stream received. The ledger finds the faults; here is what it cannot know.

* An event that was never answered may have been published or not. So it need not arrive, but may, once.
* A gap is right only where Redis lost something, and then excuses only what Redis lost.
* A key is one event: the same data under two ids was published twice.
* An answer other than 200 ends a browser's stream for good, and 4xx or 500 a publisher's hope.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from sse_core import Event
from sse_core.ids import format_id, parse_id
from sse_core.testing import Ledger

from .audience import GAP, EventSource, topic_of
from .publishers import Post


class Finding(NamedTuple):
    """One kind of fault on one stream and topic, with the ids that it concerns. ``stream`` is empty for publishers."""

    kind: str
    stream: str
    topic: str
    ids: tuple[str, ...]

    def __str__(self) -> str:
        told = ", ".join(self.ids[:3]) + (f" ... {self.ids[-1]}" if len(self.ids) > 3 else "")
        return f"{self.kind}: {self.stream or 'publishers'}, topic {self.topic or '-'}: {len(self.ids)} ({told})"


class Records(NamedTuple):
    """All that there is to judge by."""

    posts: Sequence[Post]
    streams: Sequence[EventSource]
    #: Answers that no publisher should have got.
    refusals: Sequence[str] = ()
    #: The numbers that Redis holds at the end, by topic. None: it is trusted to hold all that was answered.
    held: Mapping[str, Collection[int]] | None = None


def judge(records: Records, *, gaps: bool = False) -> list[Finding]:
    """Return everything that is wrong. ``gaps``: Redis was made to lose something, so every stream must be told.

    Without it no stream may be told a gap, and Redis must hold at the end whatever was answered with success.
    """
    return [
        *_publishing(records, gaps),
        *_receiving(records, gaps),
        *(_telling(records) if gaps else _not_telling(records)),
        *_opening(records),
    ]


def owed(posts: Sequence[Post], streams: Sequence[EventSource]) -> dict[str, int]:
    """The number of the last event of each topic that was answered with success: what to wait for."""
    last = {topic: 0 for stream in streams for topic in stream.topics}
    for post in posts:
        if post.id is not None:
            last[post.topic] = max(last.get(post.topic, 0), _number(post.id))
    return last


def has_received(stream: EventSource, last: Mapping[str, int]) -> bool:
    """Whether the stream has got as far as `owed` says; topics in which nothing happened since it opened count as done."""
    after = _number(stream.after or "0-0")
    return all(stream.newest[topic] >= last[topic] or last[topic] <= after for topic in stream.topics)


def _publishing(records: Records, gaps: bool) -> Iterator[Finding]:
    for refusal in records.refusals:
        yield Finding("refused", "", "", (refusal,))
    newest: dict[str, int] = {}
    for post in sorted(records.posts, key=lambda post: (post.topic, post.number)):
        if post.id is None:
            continue
        number = _number(post.id)
        if number <= newest.get(post.topic, 0):
            yield Finding("published out of order", "", post.topic, (post.id,))
        newest[post.topic] = max(newest.get(post.topic, 0), number)
    if records.held is not None and not gaps:
        for topic, missing in _by_topic(
            post for post in records.posts if post.id and _number(post.id) not in records.held[post.topic]
        ).items():
            yield Finding("answered, and not in Redis", "", topic, missing)


def _by_topic(posts: Iterator[Post]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for post in posts:
        found[post.topic].append(post.id or "")
    return {topic: tuple(ids) for topic, ids in found.items()}


def _receiving(records: Records, gaps: bool) -> Iterator[Finding]:
    ledger = Ledger(GAP)
    answered = {(post.topic, post.number): post for post in records.posts}
    owed_to_all: set[int] = set()
    for post in records.posts:
        if post.id is not None:
            ledger.published(post.topic, post.id, post.data)
            owed_to_all.add(_number(post.id))
    if gaps and records.held is not None:
        # What Redis lost nobody can be given. What it holds is owed, whatever a gap said.
        owed_to_all = {number for numbers in records.held.values() for number in numbers}
    twice: dict[tuple[str, str], list[str]] = defaultdict(list)
    for stream in records.streams:
        for event in stream.received:
            origin = answered.get(_origin(event)) if event.event != GAP else None
            if origin is None or origin.id == event.id:
                continue
            # It may be where there was no answer. Another id than the answer's is a second event.
            if origin.id is not None and not gaps:
                twice[stream.name, origin.topic].append(event.id or "")
            ledger.published(origin.topic, event.id or "", origin.data)
    for (name, topic), ids in twice.items():
        yield Finding("published twice", name, topic, tuple(ids))
    for stream in records.streams:
        ledger.subscribed(stream.name, stream.topics, after=stream.after or "0-0")
        for event in stream.received:
            ledger.received(stream.name, event)
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for fault in ledger.faults():
        # Lost, but never answered: nobody was promised it.
        if fault.kind != "lost" or _number(fault.id) in owed_to_all:
            found[fault.kind, fault.stream, fault.topic].append(fault.id)
    for stream in records.streams:
        for topic, missing in _excused_wrongly(stream, records.held).items():
            found["lost, and told as a gap though Redis holds it", stream.name, topic] += missing
    yield from (Finding(*key, tuple(ids)) for key, ids in found.items())


def _excused_wrongly(stream: EventSource, held: Mapping[str, Collection[int]] | None) -> dict[str, list[str]]:
    """What gaps covered on this stream although it is still there."""
    wrong: dict[str, list[str]] = {}
    if held is None:
        return wrong
    received = {_number(event.id or "0-0") for event in stream.received if event.event != GAP}
    after = _number(stream.after or "0-0")
    for topic, until in _told(stream).items():
        covered = sorted(number for number in held[topic] if after < number <= until and number not in received)
        if covered:
            wrong[topic] = [format_id(number) for number in covered]
    return wrong


def _told(stream: EventSource) -> dict[str, int]:
    """Up to which id gaps were told on this stream, by topic."""
    told: dict[str, int] = {}
    for event in stream.received:
        if event.event == GAP:
            topic = topic_of(event)
            told[topic] = max(told.get(topic, 0), _number(event.id or "0-0"))
    return told


def _telling(records: Records) -> Iterator[Finding]:
    for stream in records.streams:
        for topic in sorted(set(stream.topics) - set(_told(stream))):
            yield Finding("not told that something is lost", stream.name, topic, ())
        told: set[tuple[str, str]] = set()
        for event in stream.received:
            if event.event == GAP:
                gap = topic_of(event), event.id or ""
                if gap in told:
                    yield Finding("told the same gap twice", stream.name, gap[0], (gap[1],))
                told.add(gap)


def _not_telling(records: Records) -> Iterator[Finding]:
    for stream in records.streams:
        for event in stream.received:
            if event.event == GAP:
                reason = json.loads(event.data or "{}").get("reason")
                yield Finding(f"gap ({reason}) without a loss", stream.name, topic_of(event), (event.id or "",))


def _opening(records: Records) -> Iterator[Finding]:
    """Streams that were refused, and those whose first id was above an event that nobody had begun to publish yet."""
    posts = sorted((post for post in records.posts if post.id is not None), key=lambda post: post.started)
    for stream in records.streams:
        if stream.refused is not None:
            yield Finding("refused", stream.name, "", (stream.refused.partition("\r\n")[0],))
        if stream.after is None:
            yield Finding("never opened", stream.name, "", ())
            continue
        after = _number(stream.after)
        late = [
            post.id
            for post in posts
            if post.id and post.started > stream.primed_at and post.topic in stream.topics and _number(post.id) <= after
        ]
        if late:
            yield Finding("began above an event of its future", stream.name, "", tuple(late))


def _origin(event: Event) -> tuple[str, int]:
    topic, _, rest = (event.data or "").partition(" ")
    number = rest.partition(" ")[0]
    return topic, int(number) if number.isdigit() else -1


def _number(event_id: str) -> int:
    return parse_id(event_id) or 0
