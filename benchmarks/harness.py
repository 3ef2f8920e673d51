"""Servers and what they need: compiled programs, cores, processes. What is started here is stopped here, by its own pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .effort import Effort

FOLDER = Path(__file__).resolve().parent
NATIVE = FOLDER / "native"
BUILD = FOLDER / ".build"
START_SECONDS = 30.0
STOP_SECONDS = 45.0
TOPIC = "benchmark"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


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


def other_core(core: int) -> int:
    """Return a core for what must not take time from the core that is measured; the same one if there is no other."""
    return min(os.sched_getaffinity(0) - {core}, default=core)


def cpu_ns(*pids: int) -> int:
    """Return the CPU time of whole processes up to now (all threads, those that ended included), in nanoseconds."""
    try:
        # What clock_getcpuclockid() returns on Linux; Python has it for threads only.
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in pids)
    except OSError:
        raise BenchmarkError(f"one of the processes {pids} is gone") from None


def _settle(core: int) -> None:
    os.sched_setaffinity(0, {core})
    # Told to stop even if this process is killed.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextlib.contextmanager
def running(command: Sequence[str | Path], core: int, *, log: IO[bytes], **options: Any) -> Iterator[Any]:
    """Run a command on a core for the length of the context; what it says on standard error goes to ``log``."""
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=log,
        preexec_fn=lambda: _settle(core),
        **options,
    )
    try:
        yield process
    finally:
        stop(process)


def last_words(log: IO[bytes]) -> str:
    """Return the end of a log."""
    log.seek(0)
    return log.read().decode("utf-8", "replace")[-2000:].strip()


# ---- servers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server that runs: where it listens, its processes, and how a client has to speak to it."""

    address: str
    pids: tuple[int, ...]
    options: tuple[str, ...]
    #: The Redis behind it, if there is one. Its CPU time is told apart from that of `pids`.
    redis_pid: int | None = None
    #: Returns when so many streams, whose heads have come, would get what is published.
    settled: Callable[[int], None] = lambda streams: None

    @property
    def worker(self) -> int:
        """The process that holds the streams."""
        return self.pids[-1]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def address_for(effort: Effort, folder: str) -> str:
    """Return where a server shall listen: a free port, or a socket in ``folder``."""
    return f"127.0.0.1:{free_port()}" if effort.tcp else f"unix:{folder}/server.sock"


@contextlib.contextmanager
def plain_server(effort: Effort) -> Iterator[Server]:
    """Run the reference, ``native/plain.c``."""
    program = compiled("plain")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = address_for(effort, folder)
        with running([program, address], effort.core, log=log, stdout=subprocess.PIPE) as process:
            if process.stdout.readline() != b"ready\n":
                raise BenchmarkError(f"plain did not start: {last_words(log)}")
            yield Server(address, (process.pid,), ())


@contextlib.contextmanager
def kit_server(
    effort: Effort,
    redis: RedisServer | None = None,
    *,
    io_uring: bool = True,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run ``sse-kit serve`` as it is shipped, with one worker; its backplane is ``redis``, or in memory.

    Without ``io_uring`` each send is a system call of its own. ``settings`` are variables of its environment.
    """
    command = [sys.executable, "-m", "sse_kit", "serve"]
    if redis is not None:
        command += ["--backplane", redis.url]
    options = ("--path", f"/events?topic={TOPIC}", "--topic", TOPIC)
    variables = {"SSE_KIT_IO_URING": str(io_uring).lower()} | dict(settings or {})
    with gunicorn_server(command, "/readyz", options, effort, redis, variables) as server:
        yield server


@contextlib.contextmanager
def gunicorn_server(
    command: Sequence[str],
    probe: str,
    options: tuple[str, ...],
    effort: Effort,
    redis: RedisServer | None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a gunicorn with one worker from the moment on at which it answers GET ``probe`` with 200.

    ``options`` tell the client (``native/load.c``) how to speak to it; ``redis`` is what it was told to use; ``settings``
    are variables of its environment.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = address_for(effort, folder)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_KIT_")}
        environment |= settings or {}
        with running(
            [*command, "--bind", address], effort.core, log=log, stdout=log, env=environment, cwd=FOLDER.parent
        ) as process:
            deadline = time.monotonic() + START_SECONDS
            while not answers(address, probe):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"{' '.join(command[1:4])} did not start: {last_words(log)}")
                time.sleep(0.05)
            workers = tuple(children(process.pid))
            if len(workers) != 1:
                raise BenchmarkError(f"one worker was expected, not {len(workers)}")
            yield Server(address, (process.pid, *workers), options, None if redis is None else redis.pid)


@dataclass(frozen=True)
class RedisServer:
    """A Redis that runs: as clients of it have to be told, and its process."""

    url: str
    address: str
    pid: int


@contextlib.contextmanager
def redis_server(effort: Effort, core: int | None = None) -> Iterator[RedisServer]:
    """Run a Redis that keeps nothing on disk, on ``core`` or where all servers run."""
    program = shutil.which("redis-server")
    if program is None:
        raise BenchmarkError("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = address_for(effort, folder)
        listens = ["--port", address.rpartition(":")[2]] if effort.tcp else ["--port", "0", "--unixsocket", address[5:]]
        # Who falls behind on purpose, or because it is slow, shall be measured and not be thrown out.
        bounds = ["--client-output-buffer-limit", "pubsub 0 0 0", "--maxclients", "20000"]
        command = [
            program,
            "--bind",
            "127.0.0.1",
            *listens,
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "no",
            *bounds,
        ]
        with running(command, effort.core if core is None else core, log=log, stdout=log) as process:
            deadline = time.monotonic() + START_SECONDS
            while not _is_connectable(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"redis-server did not start: {last_words(log)}")
                time.sleep(0.01)
            url = f"redis://{address}/0" if effort.tcp else f"unix://{address[5:]}"
            yield RedisServer(url, address, process.pid)


def children(pid: int) -> list[int]:
    """Return the pids of the processes that a process has started and that still run."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def connect(address: str) -> socket.socket:
    """Return a connection to ``unix:PATH`` or ``HOST:PORT``. Raises `OSError`, also when 10 s pass without an answer."""
    unix = address.startswith("unix:")
    host, _, port = address.rpartition(":")
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    try:
        connection.settimeout(10)
        connection.connect(address.removeprefix("unix:") if unix else (host, int(port)))
    except BaseException:
        connection.close()
        raise
    return connection


def _is_connectable(address: str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def fetch(address: str, path: str) -> str:
    """GET a path and return the whole answer, head included. Raises `OSError`."""
    with connect(address) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def answers(address: str, path: str) -> bool:
    """Whether GET ``path`` is answered with 200."""
    try:
        return " 200 " in fetch(address, path).partition("\r\n")[0]
    except OSError:
        return False
