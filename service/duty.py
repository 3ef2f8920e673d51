"""`Duty`: a thing that one of all processes does, on a thread, and that another goes on with where that one died.

Which one is decided by a lease; how far it came is the lease's note. What makes it right is kept by who does the work:
publish first, then note, and never note what was not published. What the dead one had published and not noted is then
published again by its successor, under the same keys, and so once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from sse_core import BackplaneError, BusyError, Event, Hub, HubClosedError, LimitError

START_SECONDS = 1.0  # How long the first viewer waits for what is there already.
TROUBLE_SECONDS = 1.0  # The pause after an error that nobody expected.
LEASE_SECONDS = 5.0  # A holder that says nothing for so long is replaced.
RENEW_SECONDS = 1.25  # A few times within that, so that one late renewal does not cost the lease.
STANDBY_SECONDS = 1.0  # How often the others look whether the holder still lives.

_log = structlog.get_logger("sse_kit.duty")


class LeaseLostError(Exception):
    """Another process does it now. Raised into the work, which has nothing to catch there."""


class StepAsideError(Exception):
    """This process cannot do it now, another one perhaps can; it tries again after ``retry_after`` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Duty:
    """A source (see `topics`) around some work. Its callables are called on its own thread.

    ``begin`` gets the note of the last one who did it, None if there is none; ``work`` does it until `is_over`, or returns to
    be called again; ``end`` is called whenever this process is the one no more. ``work`` may raise what `renew` and `note`
    raise, `StepAsideError`, and the hub's `BackplaneError` and `HubClosedError`; anything else is logged and tried again.

    ``restores_note``: whether a backplane that has forgotten the note is given it again. If not, the work begins without one,
    as is right where what was published is lost together with the note and has to be published anew.
    """

    def __init__(
        self,
        name: str,
        hub: Hub,
        *,
        begin: Callable[[str | None], None],
        work: Callable[[], None],
        end: Callable[[], None],
        joins_processes: bool,
        restores_note: bool = True,
    ) -> None:
        self.name = name
        #: Whether this process is the one that does it.
        self.is_holder = False
        self._hub = hub
        self._lease = hub.lease(name, seconds=LEASE_SECONDS)
        self._begin = begin
        self._work = work
        self._end = end
        self._joins_processes = joins_processes
        self._restores_note = restores_note
        self._note: str | None = None
        self._renew_at = 0.0
        self._lapses_at = 0.0
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, unless started. What `ready` stands for is there when this returns, unless that takes over a second."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        self._ready.wait(START_SECONDS)

    def close(self) -> None:
        """Stop, let another process go on, and wait for the end of the thread. May be repeated."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # ---- for the work ----

    @property
    def stopped(self) -> threading.Event:
        """Set when the thread shall end: for the work's own waiting."""
        return self._stop

    def ready(self) -> None:
        """Say that the first viewer need not wait any longer."""
        self._ready.set()

    def is_over(self) -> bool:
        """Whether the work is to return."""
        # A worker that drains hands over while its viewers go; alone, it is theirs until they are gone.
        return self._stop.is_set() or (self._joins_processes and self._hub.draining)

    def renew(self) -> None:
        """Stay the one who does it; cheap, to be called often. Raises `LeaseLostError`, and `BackplaneError`."""
        now = time.monotonic()
        if now < min(self._renew_at, self._lapses_at):
            return
        # After a lapse another one may have held it and moved the note on: ours must not replace it.
        note = self._note if self._restores_note and now < self._lapses_at else None
        if not self._hold(note) or self._lease.note != self._note:
            raise LeaseLostError

    def note(self, note: str) -> None:
        """Leave a note for who comes next, unless it is there already. Raises what `renew` raises."""
        if note == self._note:
            return
        self.renew()
        if not self._hold(note) or self._lease.note != note:
            raise LeaseLostError
        self._note = note

    def publish(self, items: Sequence[tuple[str, Event]]) -> bool:
        """Publish, whatever that takes, all items or none; each has a key. False: leave it to whoever comes next.

        Raises what `renew` raises.
        """
        while not self._stop.is_set():
            try:
                self.renew()
                self._hub.publish_many(items)
                return True
            except BackplaneError as error:
                # Nobody knows whether it was published: again, under the same keys, if it is still ours to do then.
                self._lapses_at = 0.0
                self._stop.wait(error.retry_after)
            except BusyError as error:
                self._stop.wait(error.retry_after)
            except LimitError as error:
                _log.warning("waits for room in the hub", duty=self.name, reason=str(error))
                self._stop.wait(TROUBLE_SECONDS)
        return False

    # ---- the thread ----

    def _run(self) -> None:
        # Native threads that the work starts inherit this: a signal that the kernel gave to one would be seen late by gunicorn.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self.is_over():
                try:
                    if self.is_holder or self._take():
                        self._work()
                    else:
                        self._ready.set()
                        self._stop.wait(STANDBY_SECONDS)
                except HubClosedError:
                    return
                except LeaseLostError:
                    self._let_go()
                except StepAsideError as error:
                    self._ready.set()
                    self._give_back()
                    self._stop.wait(error.retry_after)
                except BackplaneError as error:
                    self._let_go()
                    self._stop.wait(error.retry_after)
                except Exception:
                    _log.exception("not done; trying again", duty=self.name)
                    self._stop.wait(TROUBLE_SECONDS)
        finally:
            self._give_back()

    def _take(self) -> bool:
        if not self._hold(None):
            return False
        self._note = self._lease.note
        self._begin(self._note)
        self.is_holder = True
        return True

    def _hold(self, note: str | None) -> bool:
        # From before the call: the server's clock for the lease starts later.
        now = time.monotonic()
        if not self._lease.hold(note):
            return False
        self._renew_at = now + RENEW_SECONDS
        self._lapses_at = now + LEASE_SECONDS
        return True

    def _give_back(self) -> None:
        if self.is_holder:
            # One that cannot be given back now runs out by itself.
            with contextlib.suppress(BackplaneError, HubClosedError):
                self._lease.release()
        self._let_go()

    def _let_go(self) -> None:
        self.is_holder = False
        self._end()
