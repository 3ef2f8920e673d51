"""The counters of the hubs and of the tailers as Prometheus metrics, read when they are asked for.

Names begin with ``sse_kit_``, carry their unit, and end in ``_total`` when they only grow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from .limits import Reached
from .namespaces import Namespaces
from .tailer import Tailer

if TYPE_CHECKING:
    from .watcher import Watcher


class Family(NamedTuple):
    """One metric family, and which of the hub's counters it shows: (key of `Hub.stats`, labels)."""

    name: str
    help: str
    samples: dict[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    counter: bool = True


def _one(key: str) -> dict[str, tuple[str, ...]]:
    return {key: ()}


def _each(prefix: str, *values: str) -> dict[str, tuple[str, ...]]:
    return {prefix + value: (value,) for value in values}


ENDS = ("client", "lagging", "timeout", "error", "drained", "closed", "complete", "expired", "revoked")

FAMILIES = (
    Family("streams", "Streams open now.", _one("streams"), counter=False),
    Family("streams_adopted", "Streams handed over to a loop.", _one("streams_adopted")),
    Family("streams_refused", "Streams sent away with a retry: full or stopping.", _one("streams_refused")),
    Family(
        "streams_ended",
        "Streams that ended, by reason.",
        _each("streams_ended_", *ENDS),
        ("reason",),
    ),
    Family(
        "ends_unreported",
        "Ends of streams that were not logged: more came than could be kept.",
        _one("ends_unreported"),
    ),
    Family("events_published", "Events given to the hub.", _one("events_published")),
    Family("events_appended", "Events appended to logs; each loop has its own.", _one("events_appended")),
    Family("appended_bytes", "Framed bytes appended to logs.", _one("bytes_appended")),
    Family(
        "streams_resumed",
        "Streams that a client came back for, with the id of its last event.",
        _one("streams_resumed"),
    ),
    Family(
        "replays",
        "Those, by where what they missed came from.",
        {"replays_log": ("log",), "replays_backplane": ("backplane",)},
        ("source",),
    ),
    Family("events_replayed", "Events that streams were behind when they began.", _one("events_replayed")),
    Family("draining", "Whether streams are being sent away for a stop: 1 or 0.", _one("draining"), counter=False),
    Family("streams_blocked", "Streams whose socket is full now.", _one("streams_blocked"), counter=False),
    Family(
        "lag_bytes",
        "Bytes that the blocked stream furthest behind has still to get, each second.",
        _one("lag_bytes"),
        counter=False,
    ),
    Family("mailbox_bytes", "Bytes on their way to the loops.", _one("mailbox_bytes"), counter=False),
    Family("events_delivered", "Events sent to subscribers.", _one("events_delivered")),
    Family("sent_bytes", "Bytes sent to subscribers.", _one("bytes_sent")),
    Family("sends", "Sends that took them: each a system call, or with io_uring one of many in one.", _one("sends")),
    Family("io_uring_loops", "Loops that send by io_uring.", _one("io_uring_loops"), counter=False),
    Family("sends_blocked", "Sends that a full socket cut short.", _one("blocked")),
    Family("turns_rationed", "Subscribers that had more to get than one turn gives.", _one("rationed")),
    Family("keepalives", "Keepalives sent into silence.", _one("keepalives")),
    Family(
        "gaps",
        "Gap events sent, by reason.",
        {
            "gaps_trimmed": ("trimmed",),
            "gaps_restart": ("restart",),
            "gaps_unknown_id": ("unknown-id",),
            "gaps_overflow": ("overflow",),
        },
        ("reason",),
    ),
    Family("events_skipped", "Events that lagging subscribers did not get: policy skip.", _one("events_skipped")),
    Family("events_collapsed", "Events replaced by a newer one: policy latest.", _one("events_collapsed")),
    Family("events_lost", "Events that a loop had no memory for.", _one("events_lost")),
    Family(
        "events_evicted",
        "Events that left a history, by the bound that was reached.",
        _each("events_evicted_by_", "bound", "age", "total"),
        ("by",),
    ),
    Family("discarded_input_bytes", "Bytes that clients sent after their request.", _one("input_bytes_discarded")),
    Family("history_events", "Events in the histories of all loops.", _one("history_events"), counter=False),
    Family("history_bytes", "Framed bytes in them.", _one("history_bytes"), counter=False),
    Family("carried_bytes", "Bytes of partly sent frames kept for subscribers.", _one("carried_bytes"), counter=False),
    Family("topics", "Topics known.", _one("topics"), counter=False),
    Family("topics_refused", "Topics for which there was no room.", _one("topics_refused")),
    Family("quota_refused", "Streams refused because their client has too many.", _one("quota_refused")),
    Family("stream_topics_refused", "Streams that asked for too many topics.", _one("stream_topics_refused")),
    Family("events_refused", "Events that were too large once framed.", _one("events_refused")),
    Family("events_after_end", "Events dropped because their topic had ended.", _one("events_after_end")),
    Family("publish_refused", "Publishes refused because a loop's mailbox was full.", _one("publish_refused")),
    Family("publish_duplicates", "Events whose idempotency key was published before.", _one("duplicates")),
    Family("idempotency_keys", "Idempotency keys remembered.", _one("keys"), counter=False),
    Family("idempotency_keys_evicted", "Idempotency keys forgotten before their time.", _one("keys_evicted")),
    Family("producers", "Generators of runs under way here.", _one("producers"), counter=False),
    Family("producers_started", "Runs begun by this process.", _one("producers_started")),
    Family("producers_refused", "Runs that max_producers had no room for.", _one("producers_refused")),
    Family(
        "producers_ended",
        "Runs of this process that ended, by how.",
        _each("producers_", "finished", "failed", "stopped", "abandoned", "interrupted"),
        ("reason",),
    ),
    Family("producers_waited", "Times that a run waited for those who listen.", _one("producers_waited")),
    # What follows only a backplane that joins processes has.
    Family("backplane_up", "Whether the backplane answers: 1 or 0.", _one("backplane_up"), counter=False),
    Family("backplane_topics", "Topics kept up to date from it.", _one("backplane_topics"), counter=False),
    Family("backplane_reconnects", "Times the connection to it was lost and made again.", _one("backplane_reconnects")),
    Family("backplane_holes", "Live messages that came without their predecessor.", _one("backplane_holes")),
    Family("backplane_forks", "Live messages of a primary that is none any more.", _one("backplane_forks")),
    Family("backplane_catch_ups", "Times the missing part of all topics was fetched.", _one("backplane_catch_ups")),
    Family("backplane_restarts", "Times it had lost the feed, which began anew.", _one("backplane_restarts")),
    Family("backplane_fetches", "Histories of topics fetched from it.", _one("backplane_fetches")),
    Family("backplane_fetched_events", "Events in them.", _one("backplane_fetched_events")),
    Family("backplane_duplicates", "Events that came twice and were delivered once.", _one("backplane_duplicates")),
    Family(
        "backplane_undeliverable",
        "Events from it that are too large for this process; streams are told a gap.",
        _one("backplane_undeliverable"),
    ),
)

# Of `Hub.histograms`: name there -> name and help here.
HISTOGRAMS = {
    "latency": ("publish_to_socket_seconds", "Time from an event's arrival here until its streams' sockets had it."),
    "turns": ("loop_turn_seconds", "Time that a turn of a loop took, its wait for something to do left out."),
}

# Attribute of `LogReader` -> help.
TAILER_COUNTERS = {
    "lines": "Lines of the log that were published.",
    "cut_lines": "Lines that were longer than allowed, and so cut.",
    "rotations": "Times the log's path named another file.",
    "truncations": "Times the log was truncated.",
}


class HubCollector(Collector):
    """Shows `Hub.stats` of each namespace. A hub that nobody has used yet shows zeros: a late counter looks like a jump."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def collect(self) -> Iterator[Metric]:
        """Yield all families with the counters as they are now."""
        stats = [(namespace.name, namespace.stats()) for namespace in self._namespaces]
        for each in FAMILIES:
            kind = CounterMetricFamily if each.counter else GaugeMetricFamily
            family = kind(f"sse_kit_{each.name}", each.help, labels=("namespace", *each.labels))
            for name, counters in stats:
                for key, labels in each.samples.items():
                    # Not a zero: a hub in memory has no backplane that could be down.
                    if key in counters:
                        family.add_metric((name, *labels), counters[key])
            if family.samples:
                yield family


class HistogramCollector(Collector):
    """Shows `Hub.histograms` of each namespace."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def collect(self) -> Iterator[Metric]:
        """Yield one family a histogram."""
        found = [(namespace.name, namespace.hub.histograms()) for namespace in self._namespaces]
        for key, (name, text) in HISTOGRAMS.items():
            family = HistogramMetricFamily(f"sse_kit_{name}", text, labels=["namespace"])
            for namespace, histograms in found:
                each = histograms[key]
                buckets = [(str(bound), count) for bound, count in each.buckets]
                family.add_metric([namespace], [*buckets, ("+Inf", each.total)], each.seconds)
            yield family


class TailerCollector(Collector):
    """Shows what the tailers have counted, by log, and which logs this process publishes."""

    def __init__(self, tailers: Collection[Tailer]) -> None:
        self._tailers = tailers

    def collect(self) -> Iterator[Metric]:
        """Yield one family a counter, with one sample a log."""
        for attribute, text in TAILER_COUNTERS.items():
            family = CounterMetricFamily(f"sse_kit_log_{attribute}", text, labels=["log"])
            for tailer in self._tailers:
                family.add_metric([tailer.name], getattr(tailer.reader, attribute))
            yield family
        held = GaugeMetricFamily("sse_kit_log_held", "Whether this process publishes the log: 1 or 0.", labels=["log"])
        for tailer in self._tailers:
            held.add_metric([tailer.name], int(tailer.is_holder))
        yield held


class WatcherCollector(Collector):
    """Shows what has become of the watched keys; nothing where there are none."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def collect(self) -> Iterator[Metric]:
        """Yield one family a number."""
        changes = CounterMetricFamily("sse_kit_watch_changes", "Values of watched keys that were published.")
        changes.add_metric([], self._watcher.changes)
        yield changes
        held = GaugeMetricFamily("sse_kit_watch_held", "Whether this process watches the keys: 1 or 0.")
        held.add_metric([], int(self._watcher.is_holder))
        yield held
        notified = GaugeMetricFamily(
            "sse_kit_watch_notified",
            "Whether keyspace notifications tell this process of changes: 1, or 0 if it polls.",
        )
        notified.add_metric([], int(self._watcher.is_notified))
        yield notified


# Key of `EventWorker.connection_stats` -> name, help, and whether it only grows.
CONNECTIONS = {
    "connections_parting": ("connections_parting", "Connections answered whose clients have not left yet.", False),
    "connections_seen_off": ("connections_seen_off", "Connections that the server has closed.", True),
    "connections_cut": ("connections_cut", "Of those, clients that had to be cut off.", True),
    "connections_input_discarded": ("connections_discarded_bytes", "What they sent after their answers.", True),
    "heads_late": ("requests_late", "Connections on which no request came in time.", True),
}


class LimitCollector(Collector):
    """Shows how often each limit was reached by a request."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached

    def collect(self) -> Iterator[Metric]:
        """Yield one family."""
        family = CounterMetricFamily(
            "sse_kit_limit_reached", "Requests refused because a limit was reached, by its setting.", labels=["limit"]
        )
        for name, count in self._reached.counts().items():
            family.add_metric([name], count)
        yield family


class ConnectionCollector(Collector):
    """Shows what the worker of this process counts of connections; nothing until `watch`, and under other servers."""

    def __init__(self) -> None:
        self._stats: Callable[[], dict[str, int]] | None = None

    def watch(self, stats: Callable[[], dict[str, int]]) -> None:
        """Show these counters from now on."""
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield one family a counter."""
        for key, value in (self._stats() if self._stats is not None else {}).items():
            name, text, counts = CONNECTIONS[key]
            family = (CounterMetricFamily if counts else GaugeMetricFamily)(f"sse_kit_{name}", text)
            family.add_metric([], value)
            yield family


def create_registry(namespaces: Namespaces) -> CollectorRegistry:
    """Return a registry of this application alone; the global one would show whatever else lives in the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HubCollector(namespaces))
    registry.register(HistogramCollector(namespaces))
    registry.register(TailerCollector(namespaces.tailers))
    registry.register(LimitCollector(namespaces.reached))
    if namespaces.watcher is not None:
        registry.register(WatcherCollector(namespaces.watcher))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
