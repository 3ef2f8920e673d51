"""Compares what was published with what every stream received. The ledger finds the faults; here is what it cannot know.

* An event that was never answered may have been published or not. If Redis holds it everybody gets it, once.
* A gap is right only where Redis lost something, and then excuses only what Redis lost.
* A key is one event: the same data under two ids was published twice. But for an *orphan*: a primary told it to streams and
  died before a replica had it, so that nobody was answered with its id, and the new primary was given it anew. Streams
  may then be told a gap: what they saw of the old primary is not in the new one.
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

Place = tuple[str, str]


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
    #: The numbers that Redis holds at the end, by topic. None: it is trusted to hold what was answered.
    held: Mapping[str, Collection[int]] | None = None
    #: What was answered before this time (monotonic seconds) had reached every stream before Redis could lose it.
    sound_until: float = 0.0


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


def owed(records: Records, gaps: bool = False) -> dict[str, set[int]]:
    """The numbers that every stream of a topic must have received if it began before: nothing excuses their loss."""
    found: dict[str, set[int]] = {topic: set() for stream in records.streams for topic in stream.topics}
    for post in records.posts:
        if post.id is not None and (not gaps or (post.answered or 0.0) < records.sound_until):
            found.setdefault(post.topic, set()).add(_number(post.id))
    for topic, numbers in (records.held or {}).items():
        found.setdefault(topic, set()).update(numbers)
    return found


def has_received(stream: EventSource, last: Mapping[str, int]) -> bool:
    """Whether a stream has got as far as ``last`` says by topic; what came before it began is not waited for."""
    after = _number(stream.after or "0-0")
    return all(stream.newest[topic] >= last[topic] or last[topic] <= after for topic in stream.topics)


def _publishing(records: Records, gaps: bool) -> Iterator[Finding]:
    for refusal in records.refusals:
        yield Finding("refused", "", "", (refusal,))
    newest: dict[str, int] = {}
    missing: dict[str, list[str]] = defaultdict(list)
    for post in sorted(records.posts, key=lambda post: (post.topic, post.number)):
        if post.id is None:
            continue
        number = _number(post.id)
        if number <= newest.get(post.topic, 0):
            yield Finding("published out of order", "", post.topic, (post.id,))
        newest[post.topic] = max(newest.get(post.topic, 0), number)
        if not gaps and records.held is not None and number not in records.held[post.topic]:
            missing[post.topic].append(post.id)
    for topic, ids in missing.items():
        yield Finding("answered, and not in Redis", "", topic, tuple(ids))


def _receiving(records: Records, gaps: bool) -> Iterator[Finding]:
    ledger = Ledger(GAP)
    firm = owed(records, gaps)
    for topic, numbers in firm.items():
        for number in numbers:
            ledger.published(topic, format_id(number))
    for post in records.posts:
        if post.id is not None:
            ledger.published(post.topic, post.id, post.data)
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (stream, topic), ids in _other_ids(records, ledger).items():
        # Who has lost the keys with everything else cannot know that it has seen this one.
        if not gaps and (twice := [each for each in ids if not _is_orphan(records, topic, each)]):
            found["published twice", stream, topic] += twice
    for source in records.streams:
        ledger.subscribed(source.name, source.topics, after=source.after or "0-0")
        for event in source.received:
            ledger.received(source.name, event)
    for fault in ledger.faults():
        if fault.kind != "lost" or _number(fault.id) in firm[fault.topic]:
            found[fault.kind, fault.stream, fault.topic].append(fault.id)
    for source in records.streams:
        for topic, until in _told(source).items():
            covered = _covered(source, firm[topic], until)
            if covered:
                found["lost, and told as a gap without a reason", source.name, topic] += covered
    yield from (Finding(*key, tuple(ids)) for key, ids in found.items())


def _other_ids(records: Records, ledger: Ledger) -> dict[Place, list[str]]:
    """What streams received under another id than the answer's. What had no answer becomes known to the ledger here."""
    posts = {(post.topic, post.number): post for post in records.posts}
    found: dict[Place, list[str]] = defaultdict(list)
    for stream in records.streams:
        for event in stream.received:
            post = posts.get(_origin(event)) if event.event != GAP else None
            if post is not None and post.id != event.id:
                ledger.published(post.topic, event.id or "", post.data)
                if post.id is not None:
                    found[stream.name, post.topic].append(event.id or "")
    return found


def _is_orphan(records: Records, topic: str, event_id: str) -> bool:
    return records.held is not None and _number(event_id) not in records.held[topic]


def _covered(stream: EventSource, firm: Collection[int], until: int) -> list[str]:
    """What a gap up to ``until`` covers on this stream although it is owed."""
    received = {_number(event.id or "") for event in stream.received if event.event != GAP}
    after = _number(stream.after or "")
    return [format_id(number) for number in sorted(firm) if after < number <= until and number not in received]


def _told(stream: EventSource) -> dict[str, int]:
    """Up to which id gaps were told on this stream, by topic."""
    told: dict[str, int] = {}
    for event in stream.received:
        if event.event == GAP:
            topic = topic_of(event)
            told[topic] = max(told.get(topic, 0), _number(event.id or ""))
    return told


def _telling(records: Records) -> Iterator[Finding]:
    for stream in records.streams:
        for topic in sorted(set(stream.topics) - set(_told(stream))):
            yield Finding("not told that something is lost", stream.name, topic, ())
        told: set[Place] = set()
        for event in stream.received:
            if event.event == GAP:
                gap = topic_of(event), event.id or ""
                if gap in told:
                    yield Finding("told the same gap twice", stream.name, gap[0], (gap[1],))
                told.add(gap)


def _not_telling(records: Records) -> Iterator[Finding]:
    if any(
        _is_orphan(records, topic, each) for (_, topic), ids in _other_ids(records, Ledger(GAP)).items() for each in ids
    ):
        return
    for stream in records.streams:
        for event in stream.received:
            if event.event == GAP:
                reason = json.loads(event.data or "{}").get("reason")
                yield Finding(f"gap ({reason}) without a loss", stream.name, topic_of(event), (event.id or "",))


def _opening(records: Records) -> Iterator[Finding]:
    """Streams that were refused, and those whose first id was above an event that nobody had begun to publish yet."""
    for stream in records.streams:
        if stream.refused is not None:
            yield Finding("refused", stream.name, "", (stream.refused.partition("\r\n")[0],))
        if stream.after is None:
            yield Finding("never opened", stream.name, "", ())
            continue
        after = _number(stream.after)
        late = [
            post.id
            for post in records.posts
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
