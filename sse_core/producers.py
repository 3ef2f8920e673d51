"""`Producers`: all runs of one hub in one process. Who may begin one, who listens, whose owner is gone."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sse_core.backplane import Backplane, Receipt
from sse_core.errors import BackplaneError, ConfigurationError, ConflictError, HubClosedError, LimitError, SSEError
from sse_core.event import Event
from sse_core.local import Local
from sse_core.producer import (
    Outcome,
    Producer,
    Run,
    Source,
    abandoned_event,
    interrupted_event,
    stopped_event,
)
from sse_core.topics import RUN_PREFIX, check_topic

State = Literal["running", "ended", "interrupted"]

#: How long a lease holds, and how often it is renewed and others' are looked at, in seconds.
_LEASE = 6.0
_KEEP_EVERY = 2.0
#: An owner that is away is looked at again after so many seconds: after an outage of the backplane it comes first.
_SUSPECT = 3.0
#: Seconds for which `close` waits for generators.
_CLOSING = 1.0

_log = logging.getLogger("sse_core.producer")


class Producers:
    """The runs of a hub. Thread-safe; nothing is started before the first run or stream of one.

    ``publish`` is the hub's, and ``publish_item`` its way to publish what may have been published: see `Home.publish`.
    """

    def __init__(
        self,
        publish: Callable[..., Receipt],
        publish_item: Callable[[str, Event, str], Receipt],
        backplane: Backplane,
        local: Local,
        *,
        most: int,
        ahead_bytes: int,
    ) -> None:
        self._publish = publish
        #: See `sse_core.producer.Home`.
        self.publish = publish_item
        self._backplane = backplane
        self._local = local
        self._most = most
        self._ahead_bytes = ahead_bytes
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._suspects: dict[str, float] = {}
        self._keeper: threading.Thread | None = None
        self._wake = threading.Event()
        self._refusing = False
        self._closed = False
        self._counts = dict.fromkeys(
            (
                *("producers_started", "producers_refused", "producers_finished", "producers_failed"),
                *("producers_stopped", "producers_abandoned", "producers_interrupted", "producers_waited"),
            ),
            0,
        )
        local.on_end = self._on_end

    # ---- beginning ----

    def produce(
        self,
        source: Source,
        topic: str | None,
        *,
        abort: Callable[[], object] | None,
        abandon_after: float | None,
    ) -> Producer:
        """See `Hub.produce`."""
        if isinstance(source, str | bytes | Mapping) or not (callable(source) or hasattr(source, "__iter__")):
            raise ConfigurationError("source: a generator, or a function that returns one")
        name = self._name(topic)
        producer = Producer(self, name, source, abort=abort, abandon_after=abandon_after, ahead_bytes=self._ahead_bytes)
        self._begin(producer, is_new=topic is None)
        try:
            producer.start()
        except RuntimeError as error:
            # No thread is left; another time there may be.
            self._forget(producer)
            self._release(producer)
            raise LimitError("max_producers", len(self._runs)) from error
        return producer

    def claim(self, topic: str | None, *, abandon_after: float | None) -> Run:
        """A run that the caller publishes into, see `Hub.progress`."""
        run = Run(self, self._name(topic), abandon_after=abandon_after, ahead_bytes=self._ahead_bytes)
        self._begin(run, is_new=topic is None)
        return run

    def _name(self, topic: str | None) -> str:
        if topic is None:
            return RUN_PREFIX + secrets.token_urlsafe(16)
        if not self._local.options(check_topic(topic)).ends:
            raise ConfigurationError(
                f"{topic!r} has no end: give it a rule with TopicOptions(ends=True), or a name that begins with {RUN_PREFIX!r}"
            )
        return topic

    def _begin(self, run: Run, *, is_new: bool) -> None:
        with self._lock:
            if self._refusing or self._closed:
                raise HubClosedError("the hub is being closed: nothing new begins here")
            if len(self._runs) >= self._most:
                self._counts["producers_refused"] += 1
                raise LimitError("max_producers", self._most)
            if run.topic in self._runs:
                raise ConflictError(f"{run.topic!r} has a producer already")
            self._runs[run.topic] = run
        held = False
        try:
            self.watch()
            # Here it stays open as long as it runs: its end may be published by another process.
            self._backplane.open([run.topic])
            if not self._backplane.joins_processes:
                with self._local.lock:
                    self._local.number(run.topic)
            held = self._backplane.hold(_lease(run.topic), _LEASE, None)[0]
            if held and not is_new:
                # Not before it is held: one that has just ended gave it back after its last event.
                self._backplane.reach_present()
            if not held or (not is_new and self._local.finite.newest(run.topic)):
                raise ConflictError(f"{run.topic!r} has a producer already, or something is left of one")
        except BaseException:
            self._forget(run)
            if held:
                self._release(run)
            raise
        with self._lock:
            self._counts["producers_started"] += 1

    # ---- for those who come back ----

    def state(self, topic: str) -> State | None:
        """See `Hub.production`."""
        self._backplane.open([topic])
        if not self._local.finite.end(topic):
            if topic in self._runs or self._backplane.is_held(_lease(topic)):
                return "running"
            # What it has published may be on its way to this process still, its end above all.
            self._backplane.reach_present()
        if self._local.finite.end(topic):
            return "ended"
        return "interrupted" if self._local.finite.newest(topic) else None

    def stop(self, topic: str) -> bool:
        """See `Hub.stop`."""
        return self.state(topic) in ("running", "interrupted") and self.end(topic, stopped_event())

    def rest(self, topics: Sequence[str], after: int) -> Literal["some", "none", "lost"]:
        """What somebody who has seen all up to id ``after`` (0: nothing) may expect of these finite topics.

        ``"lost"``: nothing is known of them here, and the id is of a feed that is gone, as the runs are that went with it.
        """
        self.watch()
        if not after:
            return "some"
        lost = False
        for topic in topics:
            state = self.state(topic)
            if state is None and self.is_foreign(after):
                lost = True
                if self._backplane.joins_processes:
                    # It has forgotten everything, and the lease with it: if there is still an owner it comes first.
                    with self._local.lock:
                        self._local.finite.lose(topic, self._local.born)
                    return "some"
            elif state is not None and (state != "ended" or after < self._local.finite.end(topic)):
                return "some"
        return "lost" if lost else "none"

    def is_foreign(self, number: int) -> bool:
        """Whether an id is of another feed than this one, of which nothing is known any more."""
        return number < self._local.born or not self._backplane.gave(number)

    def remember(self, request: str, topic: str) -> None:
        """Note a run of a request, for `find`."""
        run = self._runs.get(topic)
        if run is not None:
            run.request = request
        # As long as something is left of it, and, since this is done again while it runs, until it has ended.
        age = self._local.options(topic).history_age or 3600.0
        self._backplane.remember(request, topic, max(age, 10 * _KEEP_EVERY))

    def find(self, request: str, number: int) -> str | None:
        """The run of a request that an event with this id belongs to."""
        topics = self._backplane.recall(request)
        with self._local.lock:
            here = next((topic for topic in topics if self._local.finite.has(topic, number)), None)
        return here or self._backplane.topic_of(number, topics)

    # ---- what runs need, see `sse_core.producer.Home` ----

    def end(self, topic: str, event: Event) -> bool:
        """Publish the last event of a topic, unless somebody has: True if this was it. Raises what `Hub.publish` does."""
        # One key for whoever ends it, in whatever process: the first one counts.
        keyed = Event(event.data, event=event.event, id=f"{topic}#end", retry=event.retry, comment=event.comment)
        if not self._publish(topic, keyed).duplicate:
            return True
        self._backplane.open([topic])
        self._backplane.reach_present()
        if self._local.finite.end(topic):
            return False
        # The key was somebody else's: of a run that had this name before and is forgotten, or an application's own.
        self._publish(topic, Event(event.data, event=event.event, retry=event.retry, comment=event.comment))
        return True

    def sent(self, topic: str) -> int | None:
        """The id up to which all who listen have been sent; None if nobody listens."""
        return self._backplane.sent([topic]).get(topic)

    def waited(self) -> None:
        """A run has had to wait for those who listen."""
        with self._lock:
            self._counts["producers_waited"] += 1

    def wake(self) -> None:
        """A run is over, and its generator may have to be woken."""
        self._wake.set()

    def left(self, run: Run, outcome: Outcome) -> None:
        """The run is over here; counted once."""
        if not self._forget(run):
            return
        with self._lock:
            self._counts[f"producers_{outcome}"] += 1
        self._release(run)

    def _release(self, run: Run) -> None:
        try:
            self._backplane.release(_lease(run.topic))
        except SSEError:
            # It runs out by itself.
            _log.debug("The lease of %s could not be given back.", run.topic)

    def _forget(self, run: Run) -> bool:
        with self._lock:
            if self._runs.get(run.topic) is not run:
                return False
            del self._runs[run.topic]
            return True

    def _on_end(self, topic: str) -> None:
        run = self._runs.get(topic)
        if run is not None:
            run.over.set()
            self._wake.set()

    # ---- keeping ----

    def watch(self) -> None:
        """See to it that leases are kept, and runs are ended that nobody wants or whose process is gone."""
        with self._lock:
            if self._keeper is None and not self._closed:
                keeper = threading.Thread(target=self._keep, name="sse-producers", daemon=True)
                try:
                    keeper.start()
                except RuntimeError as error:
                    # No thread is left; another time there may be.
                    raise LimitError("max_producers", len(self._runs)) from error
                self._keeper = keeper

    def _keep(self) -> None:
        kept_at = 0.0
        while not self._closed:
            self._wake.wait(_KEEP_EVERY)
            self._wake.clear()
            steps: list[Callable[[], None]] = [self._leave_ended]
            if time.monotonic() - kept_at >= _KEEP_EVERY:
                kept_at = time.monotonic()
                steps += [self._renew, self._local.sweep, self._look_for_listeners, self._look_for_lost, self._tell_all]
            for step in steps:
                try:
                    step()
                except HubClosedError:
                    return
                except BackplaneError:
                    # Nothing can be said of anybody; and each step would wait as long as this one has.
                    self._suspects.clear()
                    for run in self._running():
                        run.heard_at = time.monotonic()
                    break
                except Exception:
                    _log.exception("Runs could not be looked after.")

    def _leave_ended(self) -> None:
        with self._lock:
            ended = [run for run in self._runs.values() if not run.running]
        for run in ended:
            if isinstance(run, Producer):
                run.abort()
            else:
                run.leave()

    def _running(self) -> list[Run]:
        with self._lock:
            return [run for run in self._runs.values() if run.running]

    def _renew(self) -> None:
        runs = self._running()
        for run in runs:
            self._backplane.hold(_lease(run.topic), _LEASE, None)
            if self._runs.get(run.topic) is not run:
                # It has been left meanwhile, and what was given back is held again.
                self._release(run)
            elif run.request is not None:
                self.remember(run.request, run.topic)
        if runs:
            # After all leases: there may be no room for a topic.
            self._backplane.open([run.topic for run in runs])

    def _tell_all(self) -> None:
        for run in self._running():
            if run.on_keep is not None:
                run.on_keep()

    def _look_for_listeners(self) -> None:
        mortal = {run.topic: run for run in self._running() if run.abandon_after is not None}
        now = time.monotonic()
        # Those in this process first: reports are some seconds old.
        for topic, streams in self._local.audience(list(mortal)).items():
            if streams:
                mortal.pop(topic).heard_at = now
        if not mortal:
            return
        for topic, streams in self._backplane.audience(list(mortal)).items():
            run = mortal[topic]
            if streams:
                run.heard_at = now
            elif run.abandon_after is not None and now - run.heard_at >= run.abandon_after:
                run.end(abandoned_event(), "abandoned", patience=0)

    def _look_for_lost(self) -> None:
        """End what others have begun and do not keep any more, if somebody here listens to it."""
        now = time.monotonic()
        mine = {run.topic for run in self._running()}
        lost = {
            topic
            for topic in self._local.unended()
            if topic not in mine and self._local.finite.newest(topic) and not self._backplane.is_held(_lease(topic))
        }
        self._suspects = {topic: since for topic, since in self._suspects.items() if topic in lost}
        for topic in lost:
            if now - self._suspects.setdefault(topic, now) >= _SUSPECT:
                self.end(topic, interrupted_event())

    # ---- life ----

    @property
    def running(self) -> int:
        """How many runs this process has."""
        return len(self._runs)

    def stats(self) -> dict[str, int]:
        """Counters by name."""
        with self._lock:
            return {"producers": len(self._runs), **self._counts}

    def refuse(self) -> None:
        """Let nothing new begin."""
        self._refusing = True

    def close(self) -> None:
        """End all runs as interrupted, and wait a moment for their generators to be closed."""
        self._refusing = True
        deadline = time.monotonic() + _CLOSING
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            try:
                run.end(interrupted_event(), "interrupted", patience=0)
            except SSEError as error:
                _log.warning("The end of %s could not be published: %s", run.topic, error)
        generators = [run for run in runs if isinstance(run, Producer)]
        for producer in generators:
            producer.abort()
        for producer in generators:
            if not producer.join(max(0.0, deadline - time.monotonic())):
                _log.warning("The generator of %s does not end.", producer.topic)
        self._closed = True
        self._wake.set()


def _lease(topic: str) -> str:
    return f"producer/{topic}"
