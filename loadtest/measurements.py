"""What a process has counted and timed; the master adds up everybody's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.histogram import Histogram
from loadtest.ledger import EXAMPLES, Losses

#: The names of times, in the order of the report. A scenario may add its own.
TIMES = ("connect", "first event", "delivery", "replayed", "reconnect", "publish")


@dataclass
class Second:
    """One second of a run."""

    delivered: int = 0
    published: int = 0
    #: Streams that were open at its end.
    open: int = 0
    delivery: Histogram = field(default_factory=Histogram)


class Measurements:
    """Counters, times by name, and the course of the run second by second. For one thread."""

    def __init__(self) -> None:
        #: By name; those that the judge knows are in `loadtest.thresholds`.
        self.counts: Counter[str] = Counter()
        self.times: defaultdict[str, Histogram] = defaultdict(Histogram)
        #: By seconds since the start of publishing; those before are negative.
        self.seconds: defaultdict[int, Second] = defaultdict(Second)
        self.losses = Losses()
        #: What went wrong, in words, and how often.
        self.reasons: Counter[str] = Counter()
        #: By how much this process's clock may be off, in milliseconds, and whether it is the master's.
        self.clock_doubt_ms = 0.0
        self.foreign_clocks = 0
        self.processes = 1

    def failed(self, kind: str, why: str, times: int = 1) -> None:
        """Count a failure of a kind that has a threshold, with its reason."""
        self.counts[kind] += times
        self.reasons[f"{kind}: {why}"] += times

    def to_message(self) -> dict[str, Any]:
        """Return it as what can be sent to another process."""
        return {
            "counts": dict(self.counts),
            "times": {name: times.to_message() for name, times in self.times.items()},
            "seconds": [
                (number, each.delivered, each.published, each.open, each.delivery.to_message())
                for number, each in self.seconds.items()
            ],
            "losses": (self.losses.silent, self.losses.told, self.losses.examples),
            "reasons": dict(self.reasons),
            "clock_doubt_ms": self.clock_doubt_ms,
            "foreign_clocks": self.foreign_clocks,
        }

    def add_message(self, message: Mapping[str, Any]) -> None:
        """Add what another process has measured."""
        self.counts.update(message["counts"])
        for name, times in message["times"].items():
            self.times[name].add_all(Histogram.from_message(times))
        for number, delivered, published, streams, delivery in message["seconds"]:
            second = self.seconds[int(number)]
            second.delivered += delivered
            second.published += published
            second.open += streams
            second.delivery.add_all(Histogram.from_message(delivery))
        silent, told, examples = message["losses"]
        self.losses.add(Losses(silent, told, list(examples)[:EXAMPLES]))
        self.reasons.update(message["reasons"])
        self.clock_doubt_ms = max(self.clock_doubt_ms, message["clock_doubt_ms"])
        self.foreign_clocks += message["foreign_clocks"]
