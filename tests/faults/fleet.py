"""Two gunicorn masters (or more) that share one backplane, started, reloaded, killed and restarted as a deployment would."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.nginx_server import short_folder
from tests.redisserver import wait_until
from tests.servers import TIMEOUT, Server

# Quicker than the defaults where a test would wait for nothing else. Streams come back soon, and are drained in a second.
QUICK: dict[str, Any] = {
    "retry": 200,
    "drain_seconds": 1.0,
    "drain_retry": [100, 500],
    "keepalive": 2.0,
    "backplane_timeout": 2.0,
    "graceful_timeout": 10,
    "http_keepalive": 20,
}


class Fleet:
    """``with Fleet(url) as fleet``: masters with ``workers`` processes each, which listen on unix sockets.

    ``settings`` are the service's. On an error the ends of all logs are printed. Without a URL each has its own memory;
    with several each master has one of them.
    """

    def __init__(
        self, backplane: str | Sequence[str] | None, *, masters: int = 2, workers: int = 2, **settings: Any
    ) -> None:
        self._folder = short_folder()
        self._workers = workers
        urls = [backplane or "memory"] * masters if backplane is None or isinstance(backplane, str) else backplane
        self.servers = []
        for index, url in enumerate(urls):
            folder = self._folder / str(index)
            folder.mkdir()
            self.servers.append(Server(folder, {"workers": workers, "backplane": url, **QUICK, **settings}))

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                list(pool.map(self._start, self.servers))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(self._end, self.servers))
        if kind is not None:
            for index, server in enumerate(self.servers):
                print(f"-- master {index} --", *readable(server.log)[-60:], sep="\n", file=sys.stderr)
        shutil.rmtree(self._folder)

    @property
    def addresses(self) -> list[str]:
        """The paths of the masters' sockets."""
        return [server.socket_path for server in self.servers]

    def workers(self, master: int) -> list[int]:
        """The pids of a master's workers."""
        return _children(self.servers[master].pid)

    def complaints(self) -> list[str]:
        """What servers have logged as an error, or written past the log: exceptions of threads, say."""
        return [line for server in self.servers for line in complaints(server.log)]

    def kill_worker(self, master: int) -> None:
        """Kill -9 the worker that a master started first, and wait until another has taken its place."""
        server = self.servers[master]
        seen = len(server.log)
        victim = min(self.workers(master))
        os.kill(victim, signal.SIGKILL)
        wait_for_end(victim)
        server.wait_for_log("Booting worker", after=seen)

    def reload(self, master: int) -> None:
        """HUP: new workers, then an end of the old ones, which is waited for."""
        server = self.servers[master]
        old = self.workers(master)
        os.kill(server.pid, signal.SIGHUP)
        for pid in old:
            wait_for_end(pid)
        # The master still has to collect them.
        wait_until(lambda: not set(old) & set(self.workers(master)), "the old workers are gone")
        assert len(self.workers(master)) == self._workers

    def restart(self, master: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """TERM and wait for the end; then, after ``meanwhile``, start it anew at the same address."""
        server = self.servers[master]
        code = server.stop(signal.SIGTERM)
        assert code == 0, f"master {master} ended with {code}"
        meanwhile()
        self._start(server)

    def _start(self, server: Server) -> None:
        seen = len(server.log)
        server.start()
        server.wait_for_logs("Booting worker", self._workers, after=seen)

    def _end(self, server: Server) -> None:
        if not server.is_running:
            return
        # Handles, not pids: one that has ended may belong to somebody else a moment later.
        with contextlib.ExitStack() as handles:
            family = []
            for pid in (server.pid, *_children(server.pid)):
                with contextlib.suppress(ProcessLookupError):
                    family.append(os.pidfd_open(pid))
                    handles.callback(os.close, family[-1])
            try:
                server.stop(signal.SIGTERM)
            finally:
                # A master that did not stop in time, or was killed, leaves its workers behind.
                for handle in family:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)


def complaints(log: Sequence[str]) -> list[str]:
    """The lines of a log that are errors, or no part of it. That gunicorn lost a worker to SIGKILL was our doing."""
    bad = [line for line in log if not line.startswith("{") or json.loads(line).get("level") in ("error", "critical")]
    return readable([line for line in bad if "was sent SIGKILL!" not in line])


def readable(log: Sequence[str]) -> list[str]:
    """The lines of a server's log in short: the level and the text, without the time; what is no JSON as it is."""
    lines = []
    for line in log:
        try:
            entry = json.loads(line)
        except ValueError:
            lines.append(line.rstrip())
            continue
        first = (entry.pop("timestamp", ""), f"{entry.pop('level', '')}: {entry.pop('event', '')}")
        rest = (f"{name}={value}" for name, value in entry.items())
        lines.append(" ".join(filter(None, (*first, *rest)))[:2000])
    return lines


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended, whoever its parent is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], TIMEOUT)
    finally:
        os.close(handle)
    assert ended, f"process {pid} did not end"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
