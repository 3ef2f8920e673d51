"""The topic ``server/stats``: the hub's counters as an event ``stats``, once a beat."""

from __future__ import annotations

import contextlib
import threading
import time

import msgspec
import structlog

from sse_core import BusyError, Event, Hub, HubClosedError

from .topics import STATS_TOPIC

_log = structlog.get_logger("sse_kit.stats")


class StatsPublisher:
    """A source (see `topics`) that publishes `Hub.stats` while any stream is open, and ends when the hub drains."""

    def __init__(self, hub: Hub, *, interval: float) -> None:
        self._hub = hub
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the beat. The first event is published before this returns, so that a new page has figures at once."""
        self._stop.clear()
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
        while not self._stop.wait(self._interval):
            if self._hub.draining:
                return
            try:
                # Without any stream there is nobody to tell. To ask for this topic's own would lock the hub for all.
                if self._hub.streams:
                    self._publish()
            except HubClosedError:
                return
            except Exception:
                # One bad beat must not end all later ones.
                _log.exception("counters not published")

    def _publish(self) -> None:
        stats = {"time": time.time(), **self._hub.stats()}
        # The next beat says all that a refused one would have said.
        with contextlib.suppress(BusyError):
            self._hub.publish(STATS_TOPIC, Event(msgspec.json.encode(stats), event="stats"))
