"""A user of locust that is a stream. Scenarios are made of this one and of `loadtest.publish_user`."""

from __future__ import annotations

import itertools
import json
import time
from typing import ClassVar
from urllib.parse import urljoin

import gevent
from locust import User, task

from loadtest.client import SSEClient
from loadtest.connection import Head
from loadtest.ledger import StreamLedger
from loadtest.participant import Participant
from loadtest.stamp import AlteredError, Stamp, find
from loadtest.templates import fill
from sse_core import Event, SSEError

_NUMBERS = itertools.count()


def is_stream(head: Head) -> bool:
    """Whether an answer is an event stream."""
    return head.status == 200 and head.headers.get("content-type", "").lower().startswith("text/event-stream")


class SSEUser(User):
    """A stream that comes back as a browser's would. Subclasses change how it reads."""

    abstract = True
    #: Bytes that the kernel holds for it; None: as many as it likes.
    receive_buffer: ClassVar[int | None] = None
    #: The name under which its deliveries are counted.
    delivery_name = "delivery"
    participant: Participant

    def on_start(self) -> None:
        """Take the topics that are its share."""
        environment_participant = getattr(self.environment, "sse_participant", None)
        assert isinstance(environment_participant, Participant)
        self.participant = environment_participant
        options = self.participant.options
        self.ledger: StreamLedger = self.participant.new_stream()
        number = next(_NUMBERS)
        sources = options.source_addresses.split(",") if options.source_addresses else [None]
        topics = sorted(self.ledger.topics)
        values = {
            "topic": topics[0],
            "topics": options.topic_separator.join(topics),
            "run": options.run_id,
            "number": self.ledger.name,
            # Of a scenario that asks anew each time.
            "prompt": "",
        }
        self.url = urljoin(self.host or "", fill(options.subscribe_url, values))
        self.client = SSEClient(
            self.url,
            headers=options.headers,
            timeout=options.timeout,
            silence=options.silence,
            tls=self.participant.tls if self.url.startswith("https:") else None,
            receive_buffer=self.receive_buffer,
            source=sources[number % len(sources)],
        )
        self._lost_at: float | None = None

    def on_stop(self) -> None:
        """Leave. What comes after this is not owed."""
        self.ledger.is_closed = True
        self.client.close()

    @task
    def listen(self) -> None:
        """Go on for ever. Not to be overridden: locust would run both."""
        self.turn()

    def turn(self) -> None:
        """One connection, from opening it to its end, and the wait before the next."""
        self.connect_and_read()
        self.wait_for_retry()

    def wait_for_retry(self) -> None:
        """Wait for as long as the server has said, or as browsers do."""
        gevent.sleep(self.client.retry / 1000)

    def connect_and_read(self) -> None:
        """Open the stream and read it to its end, whatever that is."""
        participant = self.participant
        asked = time.monotonic()
        try:
            head = self.client.open()
        except OSError as error:
            self._end("cut", f"no connection: {_words(error)}")
            return
        now = time.monotonic()
        if not is_stream(head):
            why = f"{head.status}, {head.headers.get('content-type', 'no Content-Type')}"
            self._end("wrong status", why)
            return
        participant.timed("SSE", "connect", (now - asked) * 1000)
        if self._lost_at is not None:
            participant.timed("SSE", "reconnect", (now - self._lost_at) * 1000)
        self._opened = now + participant.clock.offset
        self._lost_at = None
        participant.open_streams += 1
        try:
            self._read(asked)
        finally:
            participant.open_streams -= 1

    def _read(self, asked: float) -> None:
        participant = self.participant
        is_first = True
        try:
            while (events := self.client.receive()) is not None:
                if events and is_first:
                    is_first = False
                    participant.timed("SSE", "first event", (self.client.received_at - asked) * 1000)
                if events:
                    self.take(events, self.client.received_at + participant.clock.offset)
                self.after_read()
        except TimeoutError:
            self._end("cut", f"nothing came for {participant.options.silence:g} s")
        except (OSError, SSEError) as error:
            self._end("cut", _words(error))
        else:
            if is_first:
                participant.measured.counts["sent away"] += 1
            self._end("cut", "ended by the server" if self.client.is_open else "closed by this client")

    def _end(self, kind: str, why: str) -> None:
        self.client.close()
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        self.participant.failed(kind, why)

    def after_read(self) -> None:
        """Do what a scenario wants between two reads: a slow reader waits here."""

    def observe(self, stamp: Stamp, milliseconds: float) -> None:
        """Look at each delivery that was counted, for what a scenario wants to know beyond that."""

    def take(self, events: list[Event], now: float) -> None:
        """Judge and count events that were received at this time of the run's clock."""
        participant = self.participant
        measured = participant.measured
        gap_event, run = participant.options.gap_event, participant.options.run_id
        for event in events:
            data = event.data or ""
            if event.event == gap_event:
                self._gap(data)
                continue
            try:
                stamp = find(data)
            except AlteredError as error:
                participant.failed("altered", str(error))
                continue
            if stamp is None or stamp.run != run:
                # The server's own, or what an earlier run has left.
                measured.counts["foreign"] += 1
                continue
            if stamp.is_mark:
                self.ledger.marked(stamp.source, stamp.topic, stamp.number)
                continue
            fault = self.ledger.received(stamp.source, stamp.topic, stamp.number)
            if fault is not None:
                participant.failed(fault, f"topic {stamp.topic}, source {stamp.source}")
                if fault != "disorder":
                    continue
            measured.counts["delivered"] += 1
            published = stamp.microseconds / 1e6
            milliseconds = (now - published) * 1000
            # What was published before this connection was there could not come at once.
            is_live = published >= self._opened
            participant.timed("SSE", self.delivery_name if is_live else "replayed", milliseconds, len(data))
            if participant.starts_at is not None:
                second = measured.seconds[int(now - participant.starts_at)]
                second.delivered += 1
                if is_live:
                    second.delivery.add(milliseconds)
            if is_live:
                self.observe(stamp, milliseconds)

    def _gap(self, data: str) -> None:
        try:
            told = json.loads(data)
        except ValueError:
            told = {}
        topic = told.get("topic") if isinstance(told, dict) else None
        reason = told.get("reason", "no reason") if isinstance(told, dict) else "no reason"
        self.ledger.gap(topic if isinstance(topic, str) else None)
        self.participant.failed("gap", str(reason))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
