"""One process of a run: its streams, its publishers, what they measured, and what the coordinator has told it.

Streams and publishers are greenlets of one thread, so nothing here is locked.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import LocalRunner, WorkerRunner

from loadtest import messages
from loadtest.clock import Clock, identity
from loadtest.connection import tls_context
from loadtest.ledger import Final, Losses, Place, StreamLedger
from loadtest.measurements import Measurements
from loadtest.options import Options
from loadtest.templates import fill
from loadtest.thresholds import COUNTS

logger = logging.getLogger(__name__)

#: Between two reports of the state to the coordinator, seconds.
_REPORT = 0.25
#: How often the generator looks at how late it is, seconds.
_TICK = 0.01
#: Failures of one kind that locust's table is told one by one; beyond that it takes too long.
_TOLD_ONE_BY_ONE = 10_000
_BOUND_OF = {counter: option for option, counter in COUNTS.items()}


class StreamFault(Exception):
    """What locust's table of failures shows."""


class Participant:
    """``phase`` goes through those of `loadtest.messages`."""

    def __init__(self, environment: Environment, publishes: bool) -> None:
        self.environment = environment
        self.options = Options.of(environment.parsed_options)
        self.measured = Measurements()
        self.clock = Clock()
        self.phase = messages.SPAWN
        #: When publishing starts, by the run's clock; None until that is said.
        self.starts_at: float | None = None
        #: For how long is published, in seconds.
        self.seconds = 0.0
        #: Whether the disturbance of the scenario has come.
        self.is_disturbed = False
        self.ledgers: list[StreamLedger] = []
        self.open_streams = 0
        #: Answers that are being received, of a scenario without publishers.
        self.busy = 0
        self.first_publisher = 0
        self.all_publishers = 1
        self.publishers = 0
        self.finished_publishers = 0
        self.finals: dict[Place, Final] = {}
        self._publishes = publishes
        self._users = 0
        self._knows_time = isinstance(environment.runner, LocalRunner)
        self._settled_by: dict[Place, Final] | None = None
        self._tls: ssl.SSLContext | None = None
        self._greenlets = [gevent.spawn(self._report), gevent.spawn(self._tick), gevent.spawn(self._ask_time)]

    # ---- for users ----

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS context of all connections."""
        if self._tls is None:
            self._tls = tls_context(ca_file=self.options.ca_file or None, insecure=self.options.insecure)
        return self._tls

    def topic(self, number: int) -> str:
        """Return the name of a topic."""
        return fill(self.options.topic_name, {"run": self.options.run_id, "number": number})

    def new_stream(self) -> StreamLedger:
        """Return the ledger of a new stream, with the topics that are its share."""
        number = self._users
        self._users += 1
        index = getattr(self.environment.runner, "worker_index", 0)
        options = self.options
        # A prime: the streams of all processes together shall be spread over the topics, whatever the number of either.
        first = (number + index * 7919) * options.topics_a_stream
        topics = [self.topic((first + each) % options.topics) for each in range(options.topics_a_stream)]
        ledger = StreamLedger(f"{index}.{number}", topics, from_start=self.phase in (messages.SPAWN, messages.PRIME))
        self.ledgers.append(ledger)
        return ledger

    def new_publisher(self) -> int:
        """Return the number of a new publisher in this process."""
        self.publishers += 1
        return self.publishers - 1

    def wait_while(self, *phases: str) -> None:
        """Return when the run is in none of these phases."""
        while self.phase in phases:
            gevent.sleep(0.02)

    def since_start(self, now: float) -> float | None:
        """Return the seconds since publishing started, for a time of the run's clock; None before it is known."""
        return None if self.starts_at is None else now - self.starts_at

    def timed(self, kind: str, name: str, milliseconds: float, length: int = 0) -> None:
        """Count a time, also in locust's table, where ``kind`` is the request type."""
        self.measured.times[name].add(milliseconds)
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=None,
            context={},
        )

    def failed(self, counter: str, why: str, times: int = 1) -> None:
        """Count what should not be. Where it is judged it is a failure in locust's table as well."""
        self.measured.failed(counter, why, times)
        option = _BOUND_OF.get(counter)
        if option is not None and getattr(self.options, option) < 0:
            return
        for _ in range(min(times, _TOLD_ONE_BY_ONE)):
            self.environment.events.request.fire(
                request_type="SSE",
                name=counter,
                response_time=None,
                response_length=0,
                exception=StreamFault(why),
                context={},
            )

    # ---- for the coordinator ----

    def on_phase(self, message: Mapping[str, Any]) -> None:
        """Go on to the phase that the coordinator says."""
        phase = message["phase"]
        if phase == messages.PRIME:
            mine = message["first"].get(getattr(self.environment.runner, "client_id", ""), None)
            self.first_publisher = next(iter(message["first"].values()), 0) if mine is None else mine
            self.all_publishers = message["publishers"]
        elif phase == messages.GO:
            self.seconds = message["seconds"]
            self.starts_at = message["at"]
        elif phase == messages.DISTURB:
            self.is_disturbed = True
            return
        elif phase == messages.SETTLE:
            self._settled_by = messages.finals_from(message["finals"])
        elif phase == messages.JUDGE:
            self.phase = phase
            self._judge(messages.finals_from(message["finals"]))
            return
        self.phase = phase

    def on_time(self, message: Mapping[str, Any]) -> None:
        """Take the master's answer to what time it is."""
        if message["identity"] == identity():
            self.clock = Clock()
        else:
            self.clock.answered(message["asked"], message["time"], self.clock.local())
        self._knows_time = True

    def close(self) -> None:
        """End its own greenlets."""
        gevent.killall(self._greenlets, block=False)

    # ---- its own ----

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        runner = self.environment.runner
        assert runner is not None
        runner.send_message(kind, data)

    def _report(self) -> None:
        while True:
            gevent.sleep(_REPORT)
            state = {
                "phase": self.phase,
                "streams": len(self.ledgers),
                "ready": sum(ledger.is_ready or ledger.is_closed for ledger in self.ledgers),
                "publishers": self.publishers,
                "finished": self.finished_publishers,
                "knows_time": self._knows_time,
                "answers": self.measured.counts["answers"],
                "behind": self._behind(),
                "away": self._away(),
            }
            if self.phase in (messages.DRAIN, messages.SETTLE) and self.finished_publishers == self.publishers:
                state["finals"] = messages.finals_to(self.finals)
            self._send(messages.PROGRESS, state)

    def _behind(self) -> int:
        if not self._publishes:
            return self.busy
        finals = self._settled_by
        if self.phase != messages.SETTLE or finals is None:
            return -1
        return sum(ledger.is_behind(finals) for ledger in self.ledgers)

    def _away(self) -> int:
        if not self._publishes:
            return 0
        return sum(not ledger.is_closed for ledger in self.ledgers) - self.open_streams

    def _judge(self, finals: dict[Place, Final]) -> None:
        measured = self.measured
        if self._publishes:
            for ledger in self.ledgers:
                found = ledger.losses(finals)
                measured.losses.add(found)
                if not ledger.is_ready and ledger.from_start and not ledger.is_closed:
                    self.failed("never subscribed", "nothing came of some topic that it asked for")
        losses: Losses = measured.losses
        if losses.silent:
            self.failed("lost", "never came, and nobody said so", losses.silent)
        if losses.told:
            self.failed("told", "never came, as a gap event said", losses.told)
        measured.clock_doubt_ms = self.clock.uncertainty * 1000
        measured.foreign_clocks = 0 if self.clock.is_shared else 1
        if isinstance(self.environment.runner, WorkerRunner):
            # Locust sends its table every three seconds, and the last one too late for the master's files.
            table: dict[str, Any] = {}
            self.environment.events.report_to_master.fire(client_id=self.environment.runner.client_id, data=table)
            self._send("stats", table)
        self._send(messages.VERDICT, measured.to_message())

    def _tick(self) -> None:
        """Notice how late this process is: what it reads late it would take for a late delivery."""
        lateness = self.measured.times["own lateness"]
        while True:
            due = self.clock.local() + _TICK
            gevent.sleep(_TICK)
            late = self.clock.local() - due
            # While it was late it would have looked several times.
            for missed in range(int(late / _TICK) + 1):
                lateness.add((late - missed * _TICK) * 1000)
            since = self.since_start(self.clock.now())
            if since is not None and since >= 0:
                self.measured.seconds[int(since)].open = self.open_streams

    def _ask_time(self) -> None:
        if self._knows_time:
            return
        asked = 0
        while not (self._knows_time and self.clock.is_shared):
            self._send(messages.ASK_TIME, {"asked": self.clock.local()})
            asked += 1
            gevent.sleep(0.1 if asked < 20 else 5.0)
