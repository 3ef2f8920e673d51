"""A scenario: one question, the defaults that it is asked with, and how its figures are read as an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loadtest.measurements import Measurements
from loadtest.options import Options


@dataclass(frozen=True)
class Result:
    """What a run has measured, and what it was told."""

    options: Options
    measured: Measurements
    #: For how long was published, in seconds.
    seconds: float
    #: How many streams there were at the start of publishing.
    streams: int
    #: Seconds from the start of publishing to the disturbance; None if there was none.
    disturbed_at: float | None = None
    #: What kept the run from being judged, in words; empty if nothing did.
    obstacles: tuple[str, ...] = ()

    @property
    def deliveries_a_second(self) -> float:
        """Deliveries a second while was published."""
        return self.measured.counts["delivered"] / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Scenario:
    """``docstring`` is that of the scenario's file: its first line is the question."""

    docstring: str
    answer: Callable[[Result], str]
    #: Of locust's options ``users``, ``spawn_rate`` and ``run_time``, and of `Options`.
    defaults: dict[str, Any] = field(default_factory=dict)
    #: The measured times that are the point, which the plot shows.
    main_time: str = "delivery"
    #: Whether there are publishers. Without them the streams begin at once, and are judged by their ends.
    publishes: bool = True
    #: Whether something happens in the middle of it: `Options.disturb_command`, and what its users do of themselves.
    disturbs: bool = False

    @property
    def question(self) -> str:
        """The question, on one line."""
        return self.docstring.strip().splitlines()[0]
