"""The real service for tests: `sse-kit serve` on a unix socket in a folder of its own, stopped by its pid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from sse_core.testing import StreamReader

TIMEOUT = 60.0
COMMAND = [sys.executable, "-m", "sse_kit"]


class Answer(NamedTuple):
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


class Server:
    """One service. `start` and `stop` may be repeated: a server that comes back has the same address."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, command: Sequence[str] = COMMAND) -> None:
        self.folder = folder
        self.command = list(command)
        self.socket_path = str(folder / "s")
        self.url = f"unix:{self.socket_path}"
        #: What the server wrote to standard error, line by line.
        self.log: list[str] = []
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._pump: threading.Thread | None = None
        self._written = threading.Condition()
        self._ended = False
        self._started_at = 0

    @property
    def pid(self) -> int:
        """The arbiter's pid, which is that of the command."""
        assert self._process is not None
        return self._process.pid

    @property
    def worker_pid(self) -> int:
        """The pid of the worker that was started last."""
        self.wait_for_log("Booting worker", after=self._started_at)
        booted = [line for line in self.log[self._started_at :] if "Booting worker" in line]
        return int(json.loads(booted[-1])["event"].rpartition(" ")[2])

    def start(self) -> None:
        """Start it and wait until it listens."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_KIT_")}
        for name, value in self._settings.items():
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            environment[f"SSE_KIT_{name.upper()}"] = text
        self._started_at = len(self.log)
        self._ended = False
        self._process = subprocess.Popen(
            [*self.command, "serve", "--bind", self.url],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._pump = threading.Thread(target=self._read_log, args=(self._process,))
        self._pump.start()
        self.wait_for_log("Listening at", after=self._started_at)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        assert self._process is not None
        assert self._pump is not None
        self._process.send_signal(number)
        code = self._process.wait(TIMEOUT)
        self._pump.join()
        self._process = None
        return code

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def wait_for_log(self, text: str, *, after: int = 0) -> str:
        """Wait for a line of the log with ``text`` in it and return it; those before ``after`` do not count."""
        return self.wait_for_logs(text, 1, after=after)[0]

    def wait_for_logs(self, text: str, count: int, *, after: int = 0) -> list[str]:
        """Wait for so many lines of the log with ``text`` in them and return them."""

        def found() -> list[str]:
            return [line for line in self.log[after:] if text in line]

        with self._written:
            # Nothing more comes from one that has ended.
            self._written.wait_for(lambda: len(found()) >= count or self._ended, TIMEOUT)
        assert len(found()) >= count, f"not {count} times {text!r} in {self.log[after:]}"
        return found()

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._written:
                    self.log.append(line)
                    self._written.notify_all()
        with self._written:
            self._ended = True
            self._written.notify_all()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Exchange one request on a connection of its own."""
        connection = HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        try:
            connection.sock.connect(self.socket_path)
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def publish(self, topic: str, data: object, **fields: Any) -> str:
        """Publish one event and return its id."""
        body = json.dumps({"topic": topic, "data": data, **fields}, ensure_ascii=False).encode()
        answer = self.request("POST", "/publish", body, {"Content-Type": "application/json"})
        assert answer.status == 200, answer
        event_id: str = answer.json()["id"]
        return event_id

    def reader(self, path: str, **options: Any) -> StreamReader:
        """Open a stream."""
        return StreamReader(self.socket_path, path, timeout=TIMEOUT, **options)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line against this server and wait for its end."""
        return subprocess.run(
            [*self.command, *arguments, "--url", self.url], capture_output=True, text=True, timeout=TIMEOUT, **options
        )


@contextmanager
def running_service(*, command: Sequence[str] = COMMAND, **settings: Any) -> Iterator[Server]:
    """Run the service with ``settings`` (fields of `sse_kit.settings.Settings`); ``command`` is what runs `sse-kit`."""
    # Short: the path of a unix socket has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="sse-"))
    server = Server(folder, settings, command=command)
    try:
        server.start()
        yield server
    finally:
        if server._process is not None:
            server.stop(signal.SIGTERM)
        shutil.rmtree(folder)
