"""A user of locust that publishes: one source of events, by plan, and what it tells streams before it begins."""

from __future__ import annotations

import itertools
import math
import time
from urllib.parse import urljoin

import gevent
from locust import User, task

from loadtest import messages
from loadtest.ledger import Final
from loadtest.participant import Participant
from loadtest.publisher import Publisher, PublishError
from loadtest.stamp import Stamp, encode

#: Between marks to streams that have not received any, seconds; each time half as often.
_FIRST_MARK = 0.25
_LONGEST_MARK = 4.0
#: Before a publish is tried again.
_TRY_AGAIN = 0.5
_NUMBERS = itertools.count()


class PublishUser(User):
    """One source: publishes its share of the events, by plan, each after the answer to the one before."""

    abstract = True
    participant: Participant

    def on_start(self) -> None:
        """Join the publishers."""
        environment_participant = getattr(self.environment, "sse_participant", None)
        assert isinstance(environment_participant, Participant)
        self.participant = environment_participant
        self._local_number = self.participant.new_publisher()

    @task
    def publish(self) -> None:
        """The whole run: marks until all are subscribed, then events by plan, then nothing more."""
        participant = self.participant
        participant.wait_while(messages.SPAWN)
        self.number = participant.first_publisher + self._local_number
        count, topics = participant.all_publishers, participant.options.topics
        mine = range(self.number, topics, count) if self.number < topics else (self.number % topics,)
        self._topics = [participant.topic(each) for each in mine]
        self._numbers = dict.fromkeys(self._topics, 0)
        self._unknown: dict[str, set[int]] = {topic: set() for topic in self._topics}
        self._publisher = Publisher(self.host or "", participant.options, participant.tls if self._is_tls() else None)
        self._mark()
        asked = self._run_plan()
        participant.measured.counts["asked"] += asked
        for topic, number in self._numbers.items():
            unknown = frozenset(self._unknown[topic])
            last = next((each for each in range(number, 0, -1) if each not in unknown), 0)
            participant.finals[self.number, topic] = Final(last, unknown)
        participant.finished_publishers += 1
        while True:
            gevent.sleep(3600)

    def _is_tls(self) -> bool:
        return urljoin(self.host or "", self.participant.options.publish_url).startswith("https:")

    def _mark(self) -> None:
        """Tell what comes next until everybody has heard it. Some servers do not say when a stream is subscribed."""
        participant = self.participant
        pause = _FIRST_MARK
        while participant.phase == messages.PRIME:
            for topic in self._topics:
                stamp = self._stamp(topic, 1, is_mark=True)
                try:
                    self._publisher.publish(topic, encode(stamp), f"{stamp.run}-{self.number}-m{next(_NUMBERS)}")
                except PublishError as error:
                    participant.measured.failed("mark not published", str(error))
                    break
            until = time.monotonic() + pause
            while participant.phase == messages.PRIME and time.monotonic() < until:
                gevent.sleep(0.02)
            pause = min(2 * pause, _LONGEST_MARK)

    def _stamp(self, topic: str, number: int, *, is_mark: bool = False) -> Stamp:
        participant = self.participant
        microseconds = int(participant.clock.now() * 1e6)
        return Stamp(participant.options.run_id, self.number, topic, number, microseconds, is_mark)

    def _run_plan(self) -> int:
        """Publish; return how many events the plan had."""
        participant, options = self.participant, self.participant.options
        count = participant.all_publishers
        most = options.events // count + (self.number < options.events % count) if options.events else None
        pause = options.burst * count / options.rate if options.rate else 0.0
        # Single events are spread evenly; bursts shall be bursts, of everybody at once.
        offset = pause * self.number / count if options.burst == 1 else 0.0
        assert participant.starts_at is not None
        done = 0
        while most is None or done < most:
            due = participant.starts_at + offset + (done // options.burst) * pause
            if due >= participant.starts_at + participant.seconds:
                break
            wait = due - participant.clock.now()
            if wait > 0:
                gevent.sleep(wait)
            if participant.phase != messages.GO:
                break
            if pause and done % options.burst == 0:
                participant.measured.times["behind plan"].add((participant.clock.now() - due) * 1000)
            self._publish_one(self._topics[done % len(self._topics)])
            done += 1
        if not pause:
            return done
        planned = math.ceil(max(participant.seconds - offset, 0) / pause) * options.burst
        return planned if most is None else min(most, planned)

    def _publish_one(self, topic: str) -> None:
        participant, options = self.participant, self.participant.options
        self._numbers[topic] = number = self._numbers[topic] + 1
        key = f"{options.run_id}-{self.number}-{number}-{topic.rpartition('/')[2]}"
        why = ""
        for attempt in range(options.publish_tries):
            if attempt:
                participant.measured.failed("publish tried again", why)
                gevent.sleep(_TRY_AGAIN)
            began = time.monotonic()
            data = encode(self._stamp(topic, number), options.size)
            try:
                self._publisher.publish(topic, data, key)
            except PublishError as error:
                why = str(error)
                continue
            participant.measured.counts["published"] += 1
            participant.timed("POST", "publish", (time.monotonic() - began) * 1000, len(data))
            since = participant.since_start(participant.clock.now())
            if since is not None:
                participant.measured.seconds[int(since)].published += 1
            return
        self._unknown[topic].add(number)
        participant.failed("publish error", why)
