"""A line of the log for each stream that ended: who, how long, what it got, and why it ended.

The hub keeps the account (see `Hub.ended`), outside Python. A thread reads it now and then, so that no stream waits for a
line to be written, and a thousand that end at once are a thousand lines over some moments.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping

import structlog

from sse_core import Hub

LOOK_SECONDS = 0.5
# Lines written at once, and the pause after them, in which requests are answered.
SLICE = 100
PAUSE_SECONDS = 0.01

_log = structlog.get_logger("sse_kit.streams")


class StreamLog:
    """Logs the ends of streams that were opened with a request id. Thread-safe; ``hubs`` are those of all namespaces."""

    def __init__(self, hubs: Mapping[str, Hub]) -> None:
        self._hubs = hubs
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, unless that has begun. To be called in the process that serves, after the fork."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="stream-log", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Log what is left, at once: the hubs are closed, and the process is about to end. May be repeated."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
            self._look()

    def _run(self) -> None:
        # Else a signal that the kernel gave to this thread would be seen late by gunicorn.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for namespace, hub in self._hubs.items():
            for number, end in enumerate(hub.ended(), start=1):
                _log.info(
                    "stream ended",
                    namespace=namespace,
                    stream=end.number,
                    request_id=end.request_id,
                    subject=end.subject,
                    reason=end.reason,
                    seconds=round(end.seconds, 3),
                    events=end.events,
                    bytes=end.bytes,
                )
                if number % SLICE == 0:
                    self._stop.wait(PAUSE_SECONDS)
