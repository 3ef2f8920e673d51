"""The client (``native/load.c``), what it says of a phase, and rounds of phases by turns."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from .effort import Effort
from .harness import BenchmarkError, Server, compiled, cpu_ns, last_words, running


@dataclass(frozen=True)
class Phase:
    """What ``native/load.c`` says of one phase."""

    deliveries: int
    publishes: int
    seconds: float
    server_cpu_ns: int
    client_cpu_ns: int
    p50_us: float
    p99_us: float
    rss_anon_kib: int
    #: Of the Redis behind the server, if there is one; not part of `server_cpu_ns`.
    redis_cpu_ns: int = 0

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for one delivery, in microseconds."""
        return self.server_cpu_ns / self.deliveries / 1000

    @property
    def redis_us(self) -> float:
        """CPU time of Redis for one delivery, in microseconds."""
        return self.redis_cpu_ns / self.deliveries / 1000

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


class Load:
    """A client with all its streams open."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], redis_pid: int | None) -> None:
        self._process = process
        self._log = log
        self._redis_pids = () if redis_pid is None else (redis_pid,)
        opened = self._line()
        #: From the first connect to the last head.
        self.connect_seconds: float = opened["connect_seconds"]
        #: Streams that ended while others were opened, and were opened anew.
        self.again: int = opened["again"]

    def phase(self, kind: str, parameter: float, seconds: float) -> Phase:
        """Run a phase: ``flight``, ``burst``, ``batch``, ``rate`` or ``idle``; see ``native/load.c``."""
        redis = cpu_ns(*self._redis_pids)
        self._command(kind, parameter, seconds)
        told = self._line()
        told["redis_cpu_ns"] = cpu_ns(*self._redis_pids) - redis
        return Phase(**{name: told[name] for name in Phase.__dataclass_fields__})

    def listen(self, events: int) -> int:
        """Be ready for events that somebody else publishes; return the number after the last of them. Then `heard`."""
        self._command("listen", events, 0)
        following: int = self._line()["listening"]
        return following

    def heard(self) -> tuple[float, float]:
        """Wait until each stream has got what `listen` was for; return the median and the longest latency, in microseconds."""
        told = self._line()
        return told["p50_us"], told["max_us"]

    def _command(self, kind: str, parameter: float, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}:{parameter:g}:{seconds:g}\n".encode())
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise BenchmarkError(last_words(self._log) or "the client ended without a word")
        told: dict[str, Any] = json.loads(line)
        return told


@contextlib.contextmanager
def load(
    server: Server, streams: int, effort: Effort, *, window: int | None = None, heads: Path | None = None
) -> Iterator[Load]:
    """Open ``streams`` on a server; they stay open for the length of the context.

    At most ``window`` of them await their heads at a time; None is the client's own choice. ``heads`` is a file with the
    header fields that the request of each stream has beside the usual ones: a line each, ``|`` between two fields.
    """
    command = [str(compiled("load")), "--connect", server.address, "--streams", str(streams), *server.options]
    command += ["--pids", ",".join(map(str, server.pids))]
    if window is not None:
        command += ["--window", str(window)]
    if heads is not None:
        command += ["--heads", str(heads)]
    with (
        tempfile.TemporaryFile() as log,
        running(command, effort.core, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        yield Load(process, log, server.redis_pid)


# ---- rounds ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounds:
    """What was measured by turns: the reference first and last, and between two of ours each time."""

    ours: list[Phase]
    reference: list[Phase]

    def median(self, figure: Callable[[Phase], float]) -> tuple[float, float]:
        """Return the medians of a figure: ours, the reference's."""
        return median(map(figure, self.ours)), median(map(figure, self.reference))

    def ratio(self, figure: Callable[[Phase], float]) -> float:
        """Return the median of ours divided by the mean of the two neighbouring rounds of the reference."""
        around = zip(self.reference, self.reference[1:], strict=False)
        pairs = zip(self.ours, around, strict=True)
        return median(figure(our) * 2 / (figure(before) + figure(after)) for our, (before, after) in pairs)


def by_turns(ours: Callable[[], Phase], reference: Callable[[], Phase], rounds: int) -> Rounds:
    """Measure reference, ours, reference, ours, ..., reference. One round of each before is not counted."""
    ours()
    found = Rounds([], [reference(), reference()][1:])
    for _ in range(rounds):
        found.ours.append(ours())
        found.reference.append(reference())
    return found
