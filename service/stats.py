"""The topic ``server/stats``: the counters of each worker as events ``stats``, once a beat."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from sse_core import BackplaneError, BusyError, Event, Hub, HubClosedError

from .settings import Settings
from .topics import STATS_TOPIC

_log = structlog.get_logger("sse_kit.stats")


class StatsPublisher:
    """A source (see `topics`) that publishes ``counters`` on ``hub`` while anybody listens; ends when the hub drains.

    Each worker publishes its own, under its name, whichever of them the listeners are connected to.
    """

    def __init__(self, hub: Hub, counters: Callable[[], dict[str, int]], settings: Settings) -> None:
        self._hub = hub
        self._counters = counters
        self._interval = settings.stats_interval
        self._joins_processes = settings.joins_processes
        self._worker = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the beat. The first event is published before this returns, so that a new page has figures at once."""
        self._stop.clear()
        # In the process that serves: before a fork the pid is another's.
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        if not self._joins_processes:
            self._publish()
        self._thread = threading.Thread(target=self._run, name="server-stats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the beat and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        # Started before gunicorn has its handlers: a signal that the kernel gave to this thread would be seen late.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        wait = 0.0 if self._joins_processes else self._interval
        while not self._stop.wait(wait):
            wait = self._interval
            if self._hub.draining:
                return
            try:
                if self._is_heard():
                    self._publish()
            except HubClosedError:
                return
            except BackplaneError:
                # Nobody can be told now; the next beat says all that this one would have said.
                continue
            except Exception:
                # One bad beat must not end all later ones.
                _log.exception("counters not published")

    def _is_heard(self) -> bool:
        # Of any topic: to ask for this topic's own would lock the hub for all.
        if self._hub.streams:
            return True
        return self._joins_processes and bool(self._hub.audience([STATS_TOPIC]).get(STATS_TOPIC))

    def _publish(self) -> None:
        stats = {"time": time.time(), "worker": self._worker, **self._counters()}
        # The next beat says all that a refused one would have said.
        with contextlib.suppress(BusyError):
            self._hub.publish(STATS_TOPIC, Event(msgspec.json.encode(stats), event="stats"))
