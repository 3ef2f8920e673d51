"""The namespaces of one process: for each a hub of its own, and what answers its streams.

What the server itself has to say, its counters and its logs, is in the default namespace alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sse_core import Hub

from .addresses import Addresses
from .backplane import DEFAULT_NAMESPACE
from .demo import Counter
from .hub import create_hubs
from .limits import LIMITS, Clients, Reached
from .names import TopicNames
from .problems import Problem
from .settings import Settings
from .stats import StatsPublisher
from .streamlog import StreamLog
from .subscriber import Subscriber
from .tailer import Tailer
from .topics import COUNTER_TOPIC, LOG_PREFIX, METRIC_TOPIC, STATS_TOPIC, WATCH_PREFIX, Source, Sources

if TYPE_CHECKING:
    from .watcher import Watcher


class Namespace:
    """One namespace. ``sources`` publish its reserved topics."""

    def __init__(self, name: str, hub: Hub, sources: Sources, subscriber: Subscriber) -> None:
        self.name = name
        self.hub = hub
        self.sources = sources
        self.subscriber = subscriber

    def stats(self) -> dict[str, int]:
        """Return the hub's counters, with those whom the process had no room for among the streams that it refused."""
        stats = self.hub.stats()
        stats["streams_refused"] += self.subscriber.sent_away
        return stats


class Namespaces:
    """All namespaces of the settings. ``hubs`` replaces those that the settings describe. Thread-safe.

    Nothing is started here. Raises `ConfigurationError` for options of a hub that cannot be.
    """

    def __init__(self, settings: Settings, hubs: Mapping[str, Hub] | None = None) -> None:
        self._max_streams = settings.max_streams
        self._joins_processes = settings.joins_processes
        self.reached = Reached(LIMITS)
        self.clients = Clients(settings, Addresses(settings.forwarded_allow_ips.split(",")))
        self._names = TopicNames(settings.max_topic_bytes, settings.topic_characters)
        self._hubs = dict(create_hubs(settings) if hubs is None else hubs)
        server = self._hubs[DEFAULT_NAMESPACE]
        self.tailers = [Tailer(name, path, server, settings) for name, path in settings.logs.items()]
        own: dict[str, Source] = {LOG_PREFIX + tailer.name: tailer for tailer in self.tailers}
        # One thread, and so one look at the counters, for both.
        own[COUNTER_TOPIC] = Counter(server, settings)
        #: None without keys to watch.
        self.watcher: Watcher | None = None
        if settings.watch_keys:
            # Only here: who has no Redis needs no client for it.
            from .watcher import Watcher

            self.watcher = Watcher(server, settings)
            # One thread, and so one connection, for all.
            own |= dict.fromkeys((WATCH_PREFIX + key for key in settings.watch_keys), self.watcher)
        own[STATS_TOPIC] = own[METRIC_TOPIC] = StatsPublisher(server, self.total, settings)
        #: None where ends of streams are not logged.
        self._stream_log = StreamLog(self._hubs) if settings.log_streams else None
        self._by_name = {name: self._create(name, hub, own, settings) for name, hub in self._hubs.items()}

    def _create(self, name: str, hub: Hub, own: Mapping[str, Source], settings: Settings) -> Namespace:
        sources = Sources(own if name == DEFAULT_NAMESPACE else {})
        subscriber = Subscriber(
            name,
            hub,
            sources,
            retry=settings.drain_retry,
            has_room=self._has_room,
            clients=self.clients,
            names=self._names,
            reached=self.reached,
            stream_log=self._stream_log,
        )
        return Namespace(name, hub, sources, subscriber)

    def __iter__(self) -> Iterator[Namespace]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Namespace:
        """Return a namespace by its name. Raises a `Problem`, 404, for one that the settings do not name."""
        namespace = self._by_name.get(name)
        if namespace is None:
            raise Problem(404, "unknown-namespace", f"There is no namespace {name!r} here.", field="namespace")
        return namespace

    def total(self) -> dict[str, int]:
        """Return the counters of all namespaces of this process, added up."""
        total: dict[str, int] = {}
        for namespace in self:
            for key, value in namespace.stats().items():
                total[key] = total.get(key, 0) + value
        return total

    def start(self) -> None:
        """Begin what a process of several does unasked: join the others, and publish its counters. Returns at once."""
        if self._joins_processes:
            # On a thread: with a backplane that is away each hub waits for it, and the process must serve all the same.
            threading.Thread(target=self._start, name="namespaces", daemon=True).start()

    def _start(self) -> None:
        # Before gunicorn has its handlers: a signal that the kernel gave to this thread would be seen late.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._by_name[DEFAULT_NAMESPACE].sources.start([STATS_TOPIC])
        for hub in self._hubs.values():
            # A hub joins with its first use, and the first use shall be nobody's stream.
            hub.is_ready()

    def close(self) -> None:
        """Stop the sources, then the hubs. May be repeated."""
        for namespace in self:
            namespace.sources.close()
        for namespace in self:
            namespace.hub.close()
        if self._stream_log is not None:
            self._stream_log.close()

    def _has_room(self) -> bool:
        return sum(hub.streams for hub in self._hubs.values()) < self._max_streams
