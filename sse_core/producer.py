"""`Run`, one finite topic and its end; `Producer`, the thread that runs a generator into one.

A generator does not write to a socket: it publishes into a topic of its own, and clients subscribe to that. So a reload, a
lost connection or another process resumes the same answer, and the generator ran once.
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, TypeVar

from sse_core.backplane import Receipt
from sse_core.errors import BackplaneError, BusyError, EventError, FailedError, SSEError, StoppedError
from sse_core.event import Event
from sse_core.ids import parse_id
from sse_core.items import Items
from sse_core.topics import DONE, FAILED, LAST_EVENTS, RUN_PREFIX

#: What a generator may be: what yields items, or what returns that when it is called.
Source = Iterable[object] | Callable[[], Iterable[object]]
Outcome = Literal["finished", "failed", "stopped", "abandoned", "interrupted"]

#: Seconds between two looks at whether those who listen have caught up: at first, and at most, since each asks the backplane.
_LOOK_EVERY = 0.05, 0.5
#: Seconds for which an event is tried again while the backplane is away: less than any sensible key_window.
_PATIENCE = 60.0

_Did = TypeVar("_Did")

#: What is told of an error: its own words may hold what nobody must see.
_FAILED = "The stream failed."
_UNSENDABLE = "The stream holds something that cannot be sent."

_log = logging.getLogger("sse_core.producer")


def done_event(**members: Any) -> Event:
    """The last event of a run that has come to its end."""
    return Event({"reason": "finished", **members}, event=DONE)


def failed_event(reason: str, message: str, **members: Any) -> Event:
    """The last event of a run that has not."""
    return Event({"reason": reason, "message": message, **members}, event=FAILED)


class Home(Protocol):
    """What a run needs of its hub."""

    def publish(self, topic: str, event: Event, attempt: str) -> Receipt:
        """Publish an event of a run; once, whatever became of the same attempt before. Raises what `Hub.publish` does."""

    def end(self, topic: str, event: Event) -> bool:
        """Publish the last event of a topic, unless somebody has: True if this was it. Raises what `Hub.publish` does."""

    def sent(self, topic: str) -> int | None:
        """The id up to which all who listen have been sent, over all processes; None if nobody listens."""

    def left(self, run: Run, outcome: Outcome) -> None:
        """The run is over here."""

    def waited(self) -> None:
        """A run has had to wait for those who listen."""

    def wake(self) -> None:
        """A run is over, and its generator may have to be woken."""


class Run:
    """One finite topic while this process produces it: every event is published once, and one of them is the last.

    Thread-safe, but `publish` is for one thread.
    """

    def __init__(self, home: Home, topic: str, *, abandon_after: float | None, ahead_bytes: int) -> None:
        self._home = home
        #: What to subscribe to.
        self.topic = topic
        #: Seconds without anybody listening after which it is given up; None: never.
        self.abandon_after = abandon_after
        #: Monotonic seconds at which somebody listened last.
        self.heard_at = time.monotonic()
        #: Set once its last event is published, by whomever.
        self.over = threading.Event()
        #: What `Producers.find` finds it by, if it answers a request of its own.
        self.request: str | None = None
        #: Called every few seconds while it runs, from another thread; it must not wait.
        self.on_keep: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._ahead_bytes = ahead_bytes
        self._ahead: deque[tuple[int, int]] = deque()
        self._ahead_size = 0
        self._count = 0
        # Not the name, which may be produced again once it is forgotten.
        self._key = secrets.token_urlsafe(12)

    @property
    def run(self) -> str:
        """The name of the topic without the prefix of all runs."""
        return self.topic.removeprefix(RUN_PREFIX)

    def publish(self, event: Event, *, patience: float = _PATIENCE) -> None:
        """Publish an event of the run, when those who listen are near enough. Raises `StoppedError` once it is over.

        While the backplane is away it is tried for ``patience`` seconds; without patience nobody is waited for, and
        `BusyError` says that they are not near enough. Raises what `Hub.publish` does.
        """
        self._wait_for_room(patience)
        self._count += 1
        attempt = f"{self._key}#{self._count}"
        if event.id is not None:
            # The wire id is the hub's, and keys are the whole namespace's.
            key = f"{self._key}/{event.id}"
            event = Event(event.data, event=event.event, id=key, retry=event.retry, comment=event.comment)
        receipt = self._insist(lambda: self._home.publish(self.topic, event, attempt), self.over.wait, patience)
        size = len(event.data or "")
        self._ahead.append((parse_id(receipt.id) or 0, size))
        self._ahead_size += size

    def _insist(self, call: Callable[[], _Did], wait: Callable[[float], object], patience: float) -> _Did:
        deadline = time.monotonic() + patience
        while True:
            if self.over.is_set():
                raise StoppedError("the run is over")
            try:
                return call()
            except (BusyError, BackplaneError) as error:
                if time.monotonic() > deadline:
                    raise
                wait(error.retry_after)

    def _wait_for_room(self, patience: float) -> None:
        """Wait while what nobody has been sent yet is too much: a generator must not run ahead of its readers."""
        if self._ahead_size <= self._ahead_bytes:
            return
        pause, longest = _LOOK_EVERY
        waited = False
        while not self.over.is_set():
            try:
                sent = self._home.sent(self.topic)
            except BackplaneError:
                sent = None
            if sent is None and self.abandon_after is None:
                # It goes on whether anybody listens or not.
                self._ahead.clear()
                self._ahead_size = 0
            while sent is not None and self._ahead and self._ahead[0][0] <= sent:
                self._ahead_size -= self._ahead.popleft()[1]
            if self._ahead_size <= self._ahead_bytes:
                return
            if not patience:
                raise BusyError(pause)
            if not waited:
                waited = True
                self._home.waited()
            self.over.wait(pause)
            pause = min(2 * pause, longest)

    def end(self, event: Event, outcome: Outcome, *, patience: float = _PATIENCE) -> bool:
        """Publish the last event, unless somebody has: True if this was it.

        While the backplane is away it is tried for ``patience`` seconds. Raises what `Hub.publish` does. An event that
        cannot be sent, being too large, raises `EventError`, and those who listen are told a failure.
        """
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = "stopped" if self.over.is_set() else outcome
        try:
            return self._end_with(event, patience)
        except EventError:
            self._outcome = "failed"
            self._end_with(failed_event("error", _UNSENDABLE), patience)
            raise
        except StoppedError:
            return False
        finally:
            self.over.set()
            self.leave()

    def _end_with(self, event: Event, patience: float) -> bool:
        return self._insist(lambda: self._home.end(self.topic, event), time.sleep, patience)

    def leave(self) -> None:
        """Nothing of it is under way here any more."""
        self._home.left(self, self._outcome or "stopped")

    def stop(self) -> None:
        """End it now: who listens gets ``done`` with the reason ``stopped``."""
        self.end(stopped_event(), "stopped")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, at most so many seconds, until it has ended: True if it has."""
        return self.over.wait(timeout)


def stopped_event() -> Event:
    """The last event of a run that somebody stopped."""
    return Event({"reason": "stopped"}, event=DONE)


def interrupted_event() -> Event:
    """The last event of a run whose process is gone."""
    return failed_event("interrupted", "The server that was working on this has gone away.")


def abandoned_event() -> Event:
    """The last event of a run that nobody listened to."""
    return failed_event("abandoned", "Nobody has listened for a while.")


class Producer(Run):
    """A generator that runs on a thread of its own into a topic; made by `Hub.produce`."""

    def __init__(
        self,
        home: Home,
        topic: str,
        source: Source,
        *,
        abort: Callable[[], object] | None,
        abandon_after: float | None,
        ahead_bytes: int,
    ) -> None:
        super().__init__(home, topic, abandon_after=abandon_after, ahead_bytes=ahead_bytes)
        self._source = source
        self._abort = abort
        self._returned = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=f"sse-{topic}", daemon=True)

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if there can be no more."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until the generator is closed: True if it is."""
        return self._returned.wait(timeout)

    def abort(self) -> None:
        """Once it is over: wake a generator that waits for something, so that it can be closed. The first call counts."""
        with self._lock:
            abort, self._abort = self._abort, None
        if abort is not None and not self._returned.is_set():
            thread = threading.Thread(target=self._call, args=(abort,), name=f"sse-abort-{self.topic}", daemon=True)
            try:
                # Of its own: it may take long, and whoever calls this has others to look after.
                thread.start()
            except RuntimeError:
                # There can be no more.
                self._call(abort)

    def _call(self, abort: Callable[[], object]) -> None:
        try:
            abort()
        except BaseException:
            _log.exception("What should abort the generator of %s failed.", self.topic)

    def _run(self) -> None:
        iterator: Iterator[object] | None = None
        try:
            source = self._source() if callable(self._source) else self._source
            iterator = iter(source)
            event, outcome = self._publish_all(iterator)
        except BaseException as error:
            # Even an exit: on this thread it would end nothing but itself, and who listens would wait for ever.
            event, outcome = self._failure(error), "failed"
        try:
            self.end(event, outcome)
        except SSEError as error:
            # If nothing was told, its lease runs out, and another process says so.
            _log.error("The end of %s could not be published: %s", self.topic, error)
        finally:
            self._close(iterator)
            self._returned.set()
            super().leave()

    def leave(self) -> None:
        """Not before the generator is closed: until then it takes a thread."""
        self._home.wake()

    def _publish_all(self, iterator: Iterator[object]) -> tuple[Event, Outcome]:
        """Publish what the generator yields; return the last event."""
        items = Items()
        while not self.over.is_set():
            try:
                item = next(iterator)
            except StopIteration as stop:
                return done_event(**(stop.value if isinstance(stop.value, dict) else {})), "finished"
            event = items.event(item)
            if event is None:
                continue
            if event.event in LAST_EVENTS:
                return event, "finished" if event.event == DONE else "failed"
            self.publish(event)
        raise StoppedError("the run is over")

    def _failure(self, error: BaseException) -> Event:
        """The last event of a run that came to no end of its own, but to this error."""
        if self.over.is_set():
            # It has one. What a generator does now is its own affair: abort() makes most of them fail.
            return stopped_event()
        if isinstance(error, FailedError):
            try:
                return failed_event(error.reason, error.message, **error.members)
            except EventError as refusal:
                error = refusal
        if isinstance(error, BackplaneError):
            _log.error("%s is given up: %s", self.topic, error)
            return interrupted_event()
        _log.error("The generator of %s failed.", self.topic, exc_info=error)
        return failed_event("error", _UNSENDABLE if isinstance(error, EventError) else _FAILED)

    def _close(self, iterator: Iterator[object] | None) -> None:
        close = getattr(iterator, "close", None) or getattr(self._source, "close", None)
        if close is None:
            return
        try:
            close()
        except BaseException:
            _log.exception("The generator of %s could not be closed.", self.topic)
