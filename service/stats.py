"""What each worker has to say of itself, once a beat: on ``server/stats`` its counters, on ``server/metric`` what they mean.

``stats`` events are totals, a state of which the newest counts. ``metric`` events are the rates between two beats, with
minutes of history, so that a page that is loaded again draws its charts from what was. Both are of the same sample.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from sse_core import BackplaneError, BusyError, Event, Hub, HubClosedError

from .settings import Settings
from .topics import METRIC_TOPIC, STATS_TOPIC

#: Value of a metric -> the counter that it is the rate of.
RATES = {
    "published_per_second": "events_published",
    "delivered_per_second": "events_delivered",
    "bytes_per_second": "bytes_sent",
}

_log = structlog.get_logger("sse_kit.stats")


class Sample(NamedTuple):
    """One look at this process. ``at`` is monotonic, ``cpu`` what all its threads have used; both in seconds."""

    at: float
    cpu: float
    memory_bytes: int
    counters: dict[str, int]


class StatsPublisher:
    """The source (see `topics`) of both topics: publishes on ``hub`` while anybody listens, ends when the hub drains.

    ``counters`` are those of all namespaces. Each worker publishes its own, under its name, whichever of them the
    listeners are connected to. Starting it twice, for one topic and then for the other, starts it once.
    """

    def __init__(self, hub: Hub, counters: Callable[[], dict[str, int]], settings: Settings) -> None:
        self._hub = hub
        self._counters = counters
        self._interval = settings.stats_interval
        self._joins_processes = settings.joins_processes
        self._worker = ""
        self._last: Sample | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the beat. The first counters are published before this returns, so that a new page has figures at once.

        Rates are told from the second beat on.
        """
        if self._thread is not None:
            return
        self._stop.clear()
        # In the process that serves: before a fork the pid is another's.
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        if not self._joins_processes:
            self._last = self._sample()
            self._publish(None, self._last)
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
                # Looked at in silence too: else the first rate after it would be the mean of all of it.
                last, self._last = self._last, self._sample()
                if self._is_heard():
                    self._publish(last, self._last)
            except HubClosedError:
                return
            except BackplaneError:
                # Nobody can be told now; the next beat says all that this one would have said.
                continue
            except Exception:
                # One bad beat must not end all later ones.
                _log.exception("counters not published")

    def _is_heard(self) -> bool:
        # Of any topic: to ask for these topics' own would lock the hub for all.
        if self._hub.streams:
            return True
        return self._joins_processes and any(self._hub.audience([STATS_TOPIC, METRIC_TOPIC]).values())

    def _publish(self, last: Sample | None, sample: Sample) -> None:
        now = time.time()
        stats = {"time": now, "worker": self._worker, **sample.counters}
        events = [(STATS_TOPIC, Event(msgspec.json.encode(stats), event="stats"))]
        if last is not None:
            metric = {"ts": now, "worker": self._worker, "values": values(last, sample)}
            events.append((METRIC_TOPIC, Event(msgspec.json.encode(metric), event="metric")))
        # The counters of a beat that is refused are in the next one; the chart has a hole.
        with contextlib.suppress(BusyError):
            self._hub.publish_many(events)

    def _sample(self) -> Sample:
        return Sample(time.monotonic(), time.process_time(), resident_bytes(), self._counters())


def values(last: Sample, sample: Sample) -> dict[str, Any]:
    """Return the values of a ``metric`` event: what is, and rates since ``last``, by name."""
    seconds = sample.at - last.at
    return {
        "streams": sample.counters["streams"],
        **{
            name: round((sample.counters[counter] - last.counters[counter]) / seconds, 3)
            for name, counter in RATES.items()
        },
        "cpu_seconds_per_second": round((sample.cpu - last.cpu) / seconds, 4),
        "memory_bytes": sample.memory_bytes,
    }


def resident_bytes() -> int:
    """Return the memory that this process has in RAM now (RSS), in bytes."""
    # In pages; the second number (proc(5)).
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * resource.getpagesize()
