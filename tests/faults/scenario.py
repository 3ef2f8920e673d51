"""One scenario: servers on one backplane, streams, publishers, a fault in between, and the verdict at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from sse_core.ids import parse_id

from .audience import GAP, Audience, EventSource, describe
from .fleet import Fleet
from .judge import Finding, Records, has_received, judge, owed
from .publishers import Publishers

TOPICS = tuple(f"topic-{number}" for number in range(12))
STREAMS = 500
#: Events a second, over all topics.
RATE = 80.0
# How long the last events may take to reach every stream, in seconds.
SETTLE = 20.0


@dataclass
class Scenario:
    """What runs during a test. The fault is the test's own."""

    fleet: Fleet
    audience: Audience
    publishers: Publishers
    #: From then on disconnects count (monotonic seconds).
    started: float = field(default_factory=time.monotonic)

    def finish(
        self,
        server: redis.Redis | None = None,
        *,
        gaps: bool = False,
        sound_until: float = 0.0,
        settle: float = SETTLE,
    ) -> Verdict:
        """Stop publishing, wait until every stream has all that it is owed, and judge.

        ``server`` is a client of the Redis that has survived, whose contents count. ``gaps``: it has lost something, but
        nothing that was answered before ``sound_until`` (monotonic). ``settle`` is how long the last events may take, in
        seconds.
        """
        self.publishers.stop()
        posts, streams = self.publishers.posts(), self.audience.streams
        kept = held(server) if server is not None else None
        records = Records(posts, streams, self.publishers.refusals, kept, sound_until)
        last = {topic: max(numbers, default=0) for topic, numbers in owed(records, gaps).items()}
        behind = self.audience.wait(lambda stream: has_received(stream, last), settle)
        findings = judge(records, gaps=gaps)
        return Verdict(
            findings=findings,
            behind=behind,
            complaints=self.fleet.complaints(),
            events=sum(1 for post in posts if post.id is not None),
            unanswered=sum(1 for post in posts if post.id is None),
            retried=sum(1 for post in posts if post.attempts > 1),
            answers=self.publishers.answers,
            deliveries=sum(len(stream.received) for stream in streams),
            gaps=sum(1 for stream in streams for event in stream.received if event.event == GAP),
            disconnects=self.audience.reasons(since=self.started),
            seconds=time.monotonic() - self.started,
        )


@dataclass(frozen=True)
class Verdict:
    """The outcome in figures, and what is wrong."""

    findings: Sequence[Finding]
    #: Streams that had not received what they are owed when patience ended.
    behind: Sequence[EventSource]
    #: What the servers have logged as errors.
    complaints: Sequence[str]
    events: int
    unanswered: int
    retried: int
    answers: Counter[str]
    deliveries: int
    gaps: int
    disconnects: Counter[str]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.events} events published ({self.retried} in more than one attempt, {self.unanswered} never answered; "
            f"{dict(self.answers)}), {self.deliveries} delivered, {self.gaps} gaps, "
            f"{self.disconnects.total()} reconnects {dict(self.disconnects)}, {self.seconds:.1f} s"
        )

    def check(self) -> None:
        """Print the figures; fail if anything is wrong, with the kinds counted and a few of each shown."""
        print(self)
        if not self.findings and not self.behind and not self.complaints:
            return
        kinds = Counter(finding.kind for finding in self.findings)
        shown = [next_of for kind in kinds for next_of in [f for f in self.findings if f.kind == kind][:4]]
        lines = [f"{len(self.findings)} findings: {dict(kinds)}", *map(str, shown)]
        if self.behind:
            lines.append(f"{len(self.behind)} streams behind: {describe(self.behind)}")
        raise AssertionError("\n".join([str(self), *lines, *self.complaints[:20]]))

    def check_outage(self) -> None:
        """`check`, and: publishers were told that the backplane was away, and no stream was closed for it."""
        self.check()
        assert self.answers["503"] > 0
        assert self.disconnects.total() == 0


@contextmanager
def running(
    backplane: str | Sequence[str] | None,
    *,
    streams: int = STREAMS,
    masters: int = 2,
    workers: int = 2,
    rate: float = RATE,
    size: int = 0,
    source: Callable[[str, Sequence[str]], EventSource] = EventSource,
    **settings: Any,
) -> Iterator[Scenario]:
    """Run masters, streams and publishers; begin when every stream is open and events arrive."""
    with (
        Fleet(backplane, masters=masters, workers=workers, **settings) as fleet,
        Audience(fleet.addresses, plans(streams), source=source) as audience,
    ):
        audience.wait_until_open()
        with Publishers(fleet.addresses, TOPICS, rate=rate, size=size) as publishers:
            scenario = Scenario(fleet, audience, publishers)
            publishers.wait_for(int(rate / 2))
            scenario.started = time.monotonic()
            yield scenario


def plans(streams: int, topics: Sequence[str] = TOPICS) -> list[tuple[str, ...]]:
    """The topics of each stream: every second one listens to one topic, the others to three."""
    count = len(topics)
    return [
        (topics[index // 2 % count],)
        if index % 2
        else (topics[index // 2 % count], topics[(index // 2 + 1) % count], topics[(index // 2 + 5) % count])
        for index in range(streams)
    ]


def held(client: redis.Redis, namespace: str = "default", topics: Sequence[str] = TOPICS) -> dict[str, set[int]]:
    """The numbers of the events that Redis holds, by topic. The client decodes nothing."""
    numbers: dict[str, set[int]] = {}
    for topic in topics:
        entries: list[tuple[bytes, object]] = client.xrange(f"{{{namespace}}}:topic:{topic}")  # type: ignore[assignment]
        numbers[topic] = {parse_id(event_id.decode()) or 0 for event_id, _ in entries}
    return numbers
