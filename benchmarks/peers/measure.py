"""One peer with so many streams, by turns with the plain server: what a stream, a connect and a delivery cost."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from ..client import Load, Phase, Rounds, by_turns, load
from ..effort import Effort
from ..harness import BenchmarkError, Server, plain_server
from ..memory_of import rss_anon
from .servers import BURST, Peer

#: A burst that takes longer (seconds) is a smaller one, and there is one round of it.
LONGEST_BURST = 15.0
SMALL_BURST = 5
#: Events a second when latency is measured, by streams: what the slowest of them can still do, nearly.
RATES = {100: 10.0, 1_000: 10.0, 10_000: 1.0}
RATE_SECONDS = 3.0


@dataclass(frozen=True)
class Delivery:
    """What a delivery costs in one kind of phase."""

    #: Of all processes of the server, Redis included, in microseconds.
    cpu_us: float
    #: As a multiple of the plain server's, of the rounds before and after.
    ratio: float
    #: Deliveries a second.
    rate: float


@dataclass(frozen=True)
class Found:
    """One peer with so many streams. What could not be measured is None, and `missing` says why."""

    peer: Peer
    #: As many as the others have in the same table, and those it was measured with.
    streams: int
    opened: int
    connects: float | None = None
    bytes_per_stream: float | None = None
    flight: Delivery | None = None
    burst: Delivery | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    #: Events of a burst.
    burst_of: int = BURST
    #: Streams that ended while others were opened, and were opened anew.
    again: int = 0
    missing: str = ""

    @property
    def rate(self) -> float | None:
        """Deliveries a second, at best."""
        return max((each.rate for each in (self.flight, self.burst) if each is not None), default=None)

    @property
    def remarks(self) -> list[str]:
        """What has to be known beside the figures."""
        found = []
        if self.opened < self.streams:
            found.append(
                f"{self.opened:,} streams, since each takes two of the 20,000 files that a process may open here"
            )
        if self.again:
            found.append(f"streams that ended while others were opened, and were opened anew: {self.again}")
        if self.burst is not None and self.burst_of < BURST:
            why = "a stream's queue holds no more" if self.peer.burst < BURST else "more take too long"
            found.append(f"bursts of {self.burst_of}, {why}")
        return [*found, self.missing] if self.missing else found


def measure(peer: Peer, streams: int, effort: Effort) -> Found:
    """Measure one peer. Never raises for what the peer cannot do: that is a finding."""
    nominal, streams = streams, min(streams, peer.most)
    found = Found(peer, nominal, streams)
    try:
        with plain_server(effort) as plain, peer.serve(effort, streams) as server:
            before = _memory(server)
            with load(plain, streams, effort) as plain_load, load(server, streams, effort) as peer_load:
                server.settled(streams)
                peer_load.phase("idle", 0, effort.seconds)
                found = replace(
                    found,
                    connects=streams / peer_load.connect_seconds,
                    bytes_per_stream=(_memory(server) - before) / streams,
                    again=peer_load.again,
                )
                found = replace(found, flight=_delivery(_rounds(peer_load, plain_load, "flight", 1, effort)))
                hz = RATES.get(nominal, 10.0)
                seconds = effort.seconds if effort.quick else max(RATE_SECONDS, 3 / hz)
                latency = by_turns(
                    lambda: peer_load.phase("rate", hz, seconds), lambda: plain_load.phase("rate", hz, seconds), 1
                ).ours[0]
                found = replace(found, p50_ms=latency.p50_us / 1000, p99_ms=latency.p99_us / 1000)
                # Last, since the first event that a peer loses ends the measurement.
                size, rounds = peer.burst, effort
                if size * streams / (found.rate or 1) > LONGEST_BURST:
                    size, rounds = min(size, SMALL_BURST), replace(effort, rounds=1)
                found = replace(
                    found, burst=_delivery(_rounds(peer_load, plain_load, "burst", size, rounds)), burst_of=size
                )
    except BenchmarkError as error:
        return replace(found, missing=str(error).splitlines()[-1])
    return found


def _rounds(ours: Load, plain: Load, kind: str, parameter: int, effort: Effort) -> Rounds:
    return by_turns(
        lambda: ours.phase(kind, parameter, effort.seconds),
        lambda: plain.phase(kind, parameter, effort.seconds),
        effort.rounds,
    )


def _delivery(rounds: Rounds) -> Delivery:
    def cpu(phase: Phase) -> float:
        return phase.cpu_us + phase.redis_us

    return Delivery(rounds.median(cpu)[0], rounds.ratio(cpu), rounds.median(lambda phase: phase.rate)[0])


def _memory(server: Server) -> float:
    pids = {*server.pids, *([] if server.redis_pid is None else [server.redis_pid])}
    total = 0.0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            total += rss_anon(pid)
    return total
