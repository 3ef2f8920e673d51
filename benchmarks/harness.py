"""Servers, the client that loads them, and rounds by turns. Everything started here is stopped here, by its own pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from .effort import Effort

FOLDER = Path(__file__).resolve().parent
NATIVE = FOLDER / "native"
BUILD = FOLDER / ".build"
START_SECONDS = 30.0
STOP_SECONDS = 45.0
TOPIC = "benchmark"


class BenchmarkError(Exception):
    """A server or the client failed, so that there is no figure."""


def compiled(name: str) -> Path:
    """Return the program made of ``native/NAME.c``, compiled if it is missing or older."""
    source, program = NATIVE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime <= source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        # Under another name first: two runs at once must not execute half a program.
        fresh = BUILD / f"{name}.{os.getpid()}"
        subprocess.run(
            ["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(source)], check=True
        )
        fresh.replace(program)
    return program


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process by TERM, and by KILL if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def step_aside(core: int) -> None:
    """Move this process to the other cores, if there are any: it must not take time from what it measures."""
    others = os.sched_getaffinity(0) - {core}
    if others:
        os.sched_setaffinity(0, others)


@contextlib.contextmanager
def _running(command: Sequence[str | Path], core: int, *, log: IO[bytes], **options: Any) -> Iterator[Any]:
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=log,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        **options,
    )
    try:
        yield process
    finally:
        stop(process)


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode("utf-8", "replace")[-2000:].strip()


# ---- servers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server that runs: where it listens, its processes, and how a client has to speak to it."""

    address: str
    pids: tuple[int, ...]
    options: tuple[str, ...]

    @property
    def worker(self) -> int:
        """The process that holds the streams."""
        return self.pids[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _address(effort: Effort, folder: str) -> str:
    return f"127.0.0.1:{_free_port()}" if effort.tcp else f"unix:{folder}/server.sock"


@contextlib.contextmanager
def plain_server(effort: Effort) -> Iterator[Server]:
    """Run the reference, ``native/plain.c``."""
    program = compiled("plain")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = _address(effort, folder)
        with _running([program, address], effort.core, log=log, stdout=subprocess.PIPE) as process:
            if process.stdout.readline() != b"ready\n":
                raise BenchmarkError(f"plain did not start: {_last_words(log)}")
            yield Server(address, (process.pid,), ())


@contextlib.contextmanager
def kit_server(effort: Effort) -> Iterator[Server]:
    """Run ``sse-kit serve`` as it is shipped, with one worker."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = _address(effort, folder)
        command = [sys.executable, "-c", "from sse_kit.cli import main; main()", "serve", "--bind", address]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_KIT_")}
        with _running(command, effort.core, log=log, stdout=log, env=environment) as process:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(address, "/healthz"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"sse-kit serve did not start: {_last_words(log)}")
                time.sleep(0.05)
            workers = tuple(_children(process.pid))
            if len(workers) != 1:
                raise BenchmarkError(f"one worker was expected, not {len(workers)}")
            path = f"/events?topic={TOPIC}"
            yield Server(address, (process.pid, *workers), ("--path", path, "--topic", TOPIC))


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def fetch(address: str, path: str) -> str:
    """GET a path and return the whole answer, head included. Raises `OSError`."""
    unix = address.startswith("unix:")
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as connection:
        connection.settimeout(10)
        connection.connect(address.removeprefix("unix:") if unix else (host, int(port)))
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def _answers(address: str, path: str) -> bool:
    try:
        return " 200 " in fetch(address, path).partition("\r\n")[0]
    except OSError:
        return False


# ---- the client ------------------------------------------------------------------------------------------------------


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

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for one delivery, in microseconds."""
        return self.server_cpu_ns / self.deliveries / 1000

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


class Load:
    """A client with all its streams open."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        #: From the first connect to the last head.
        self.connect_seconds: float = self._line()["connect_seconds"]

    def phase(self, kind: str, parameter: float, seconds: float) -> Phase:
        """Run a phase: ``flight``, ``burst``, ``rate`` or ``idle``; see ``native/load.c``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}:{parameter:g}:{seconds:g}\n".encode())
        self._process.stdin.flush()
        told = self._line()
        return Phase(**{name: told[name] for name in Phase.__dataclass_fields__})

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise BenchmarkError(_last_words(self._log) or "the client ended without a word")
        told: dict[str, Any] = json.loads(line)
        return told


@contextlib.contextmanager
def load(server: Server, streams: int, effort: Effort) -> Iterator[Load]:
    """Open ``streams`` on a server; they stay open for the length of the context."""
    command = [str(compiled("load")), "--connect", server.address, "--streams", str(streams), *server.options]
    command += ["--pids", ",".join(map(str, server.pids))]
    with (
        tempfile.TemporaryFile() as log,
        _running(command, effort.core, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        yield Load(process, log)


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
