"""How much is measured, and the command line that says so: the same for every benchmark."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

ROUNDS = 5
SECONDS = 2.0


def last_core() -> int:
    """Return the highest core that this process may use; the lowest has most of the interrupts."""
    return max(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Effort:
    """The size of a run."""

    #: Rounds of each side; medians are over them.
    rounds: int = ROUNDS
    #: Length of one phase of one round.
    seconds: float = SECONDS
    #: Sizes so small that the figures mean nothing: whether everything runs.
    quick: bool = False
    #: Whether servers listen on TCP instead of a unix socket.
    tcp: bool = False
    #: Where servers and clients run, all on one.
    core: int = field(default_factory=last_core)

    @property
    def method(self) -> str:
        """What holds for every benchmark that has a server."""
        return (
            f"Medians of {self.rounds} rounds of {self.seconds:g} s, each between two rounds of the reference; the ratio is "
            f"to the mean of the two. Server and client on core {self.core}, over {'TCP' if self.tcp else 'a unix socket'}, "
            "events of 100 bytes published over HTTP. CPU time is that of all processes of the server."
        )


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run? Figures mean nothing")
    parser.add_argument("--rounds", type=int, help=f"rounds of each side (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of a phase (default {SECONDS:g})")
    parser.add_argument("--tcp", action="store_true", help="TCP on the loopback instead of a unix socket")
    parser.add_argument(
        "--core", type=int, default=last_core(), help="where servers and clients run (default: the last)"
    )


def chosen(arguments: argparse.Namespace) -> Effort:
    """Return what the options ask for."""
    quick: bool = arguments.quick
    return Effort(
        rounds=arguments.rounds or (1 if quick else ROUNDS),
        seconds=arguments.seconds or (0.1 if quick else SECONDS),
        quick=quick,
        tcp=arguments.tcp,
        core=arguments.core,
    )


def parse(description: str | None, argv: Sequence[str] | None = None) -> Effort:
    """Return what the command line of one benchmark asks for."""
    parser = argparse.ArgumentParser(description=description)
    options(parser)
    return chosen(parser.parse_args(argv))
