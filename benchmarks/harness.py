"""Servers and what they need: compiled programs, cores, processes. What is started here is stopped here, by its own pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
        with running([program, address], effort.core, log=log, stdout=subprocess.PIPE) as process:
            if process.stdout.readline() != b"ready\n":
                raise BenchmarkError(f"plain did not start: {last_words(log)}")
            yield Server(address, (process.pid,), ())


@contextlib.contextmanager
def kit_server(effort: Effort) -> Iterator[Server]:
    """Run ``sse-kit serve`` as it is shipped, with one worker."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        address = _address(effort, folder)
        command = [sys.executable, "-m", "sse_kit", "serve", "--bind", address]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_KIT_")}
        with running(command, effort.core, log=log, stdout=log, env=environment) as process:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(address, "/healthz"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"sse-kit serve did not start: {last_words(log)}")
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
