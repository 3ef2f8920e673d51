"""Real Redis servers for tests: on free ports of 127.0.0.1, in folders of their own, stopped by their pids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import redis

TIMEOUT = 30.0
Found = TypeVar("Found")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_until(ask: Callable[[], Found], what: str, timeout: float = TIMEOUT) -> Found:
    """Ask until the answer is true, and return it. What a server that is not there yet raises counts as no."""
    end = time.monotonic() + timeout
    while True:
        with suppress(redis.RedisError, OSError):
            found = ask()
            if found:
                return found
        assert time.monotonic() < end, f"waited {timeout} s in vain: {what}"
        time.sleep(0.02)


class RedisServer:
    """One server. `start` after `stop` or `kill` brings it back at the same address, with what it had written."""

    def __init__(
        self, folder: Path, *, port: int | None = None, aof: bool = False, options: Sequence[object] = ()
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        # Short: the path of a unix socket has 107 bytes at most.
        self._sockets = Path(tempfile.mkdtemp(prefix="sse-"))
        self.url = f"redis://127.0.0.1:{self.port}/0"
        #: The same server on a unix socket.
        self.unix_url = f"unix://{self._sockets}/s"
        self._aof = aof
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []

    @property
    def pid(self) -> int:
        """The pid of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "the server runs"
        settings: list[object] = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", ""]
        settings += ["--unixsocket", self._sockets / "s", "--appendonly", "yes" if self._aof else "no"]
        settings += ["--appendfsync", "always"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *map(str, [*settings, *self._options])], stdout=log, stderr=log
            )
        client = self.client()
        wait_until(lambda: self._is_ready(client), f"a server on port {self.port}: {self.log()}")

    def _is_ready(self, client: redis.Redis) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        # Without a password PING is refused, and that too is an answer.
        with suppress(redis.AuthenticationError):
            # Another server may have taken the port: ours answers with its own pid.
            return int(client.info("server")["process_id"]) == self._process.pid
        return True

    def log(self) -> str:
        """What the server has written."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, **options: Any) -> redis.Redis:
        """A client of this server, closed with it. No attempt is repeated: a test sees what happens."""
        options = {"protocol": 2, "socket_timeout": TIMEOUT, "retry": None} | options
        client = redis.Redis(host="127.0.0.1", port=self.port, **options)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Let it end by itself: it writes what it has to."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without any warning."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            # A paused process hears of SIGTERM only when it goes on.
            process.send_signal(signal.SIGCONT)
            process.wait(TIMEOUT)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good and close its clients."""
        for client in self._clients:
            client.close()
        self.kill()
        shutil.rmtree(self._sockets)


@contextmanager
def redis_server(
    folder: Path, *, port: int | None = None, aof: bool = False, options: Sequence[object] = ()
) -> Iterator[RedisServer]:
    """Run a server in a new folder inside of `folder`; with ``aof`` it has what it answered after `kill` too."""
    place = folder / f"redis-{free_port() if port is None else port}"
    place.mkdir()
    server = RedisServer(place, port=port, aof=aof, options=options)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(place)
