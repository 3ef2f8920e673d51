"""Which topics belong to the server, and what must run before somebody can listen to them.

Topics under `RESERVED` carry what the server itself has to say: nobody publishes them over HTTP. Those under `SOURCED` have
a *source* each, a thread that starts when the first subscriber asks and so never before the fork.
"""

from __future__ import annotations

import atexit
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

LOG_PREFIX = "log/"
SERVER_PREFIX = "server/"
STATS_TOPIC = SERVER_PREFIX + "stats"
METRIC_TOPIC = SERVER_PREFIX + "metric"
# Among processes only: reserved, and without a source, so that nobody can ask for it.
REVOCATION_TOPIC = SERVER_PREFIX + "revocations"
# For how long somebody can be shut out, and of how many times as many entries as there may be the history is.
REVOCATION_SECONDS = 31 * 86_400
REVOCATION_HISTORY_FACTOR = 4
DEMO_PREFIX = "demo/"
COUNTER_TOPIC = DEMO_PREFIX + "counter"
WATCH_PREFIX = "watch/"
# Generations and jobs, each of which is produced by the request that starts it.
RUN_PREFIX = "run/"
# What `sse-kit doctor` listens to, and asks for beat by beat.
DOCTOR_PREFIX = "doctor/"
SOURCED = (LOG_PREFIX, SERVER_PREFIX, DEMO_PREFIX, WATCH_PREFIX)
RESERVED = (*SOURCED, RUN_PREFIX, DOCTOR_PREFIX)

_PROBE = re.compile("[0-9a-f]{32}")


def is_probe(name: str) -> bool:
    """Whether this is a name that `sse-kit doctor` makes: nobody can guess it."""
    return _PROBE.fullmatch(name) is not None


class Source(Protocol):
    """Publishes one reserved topic once started."""

    def start(self) -> None:
        """Start, unless started; returns when what is there already has been published."""

    def close(self) -> None:
        """Stop and wait for the end."""


class UnknownSourceError(LookupError):
    """``topic`` is reserved for the server, and the server publishes nothing by that name."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


class Sources:
    """The sources of one process by topic. Thread-safe."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._started: set[str] = set()
        self._lock = threading.Lock()

    def start(self, topics: Iterable[str]) -> None:
        """Start what publishes ``topics``. Raises `UnknownSourceError` for one under `SOURCED` that nothing publishes."""
        for topic in topics:
            if topic.startswith(SOURCED) and topic not in self._started:
                self._start(topic)

    def _start(self, topic: str) -> None:
        source = self._sources.get(topic)
        if source is None:
            raise UnknownSourceError(topic)
        with self._lock:
            if topic in self._started:
                return
            if not self._started:
                # In the process that serves, hence here and not in __init__, which may run before a fork.
                atexit.register(self.close)
            source.start()
            self._started.add(topic)

    def close(self) -> None:
        """Stop what was started. What is asked for afterwards is started again."""
        with self._lock:
            for topic in self._started:
                self._sources[topic].close()
            self._started.clear()
