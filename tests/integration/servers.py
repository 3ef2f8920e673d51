"""Real servers for the tests: each a process with a folder of its own, watched by notices, stopped by its pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sse_core.testing import StreamReader
from tests.ports import free_port

Address = tuple[str, int] | str

ROOT = Path(__file__).parents[2]
EVENT_WORKER = "sse_core.worker.EventWorker"
WAIT = 15.0


class Server:
    """A running server. Every wait is for something that the server does, and fails after `WAIT` seconds."""

    def __init__(self, command: list[str], folder: Path, *, hub: dict[str, Any] | None) -> None:
        self.folder = folder
        self.address: Address = str(folder / "http")
        self._log = folder / "log"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notices"))
        self._notices.settimeout(WAIT)
        self._seen: list[dict[str, Any]] = []
        self._masters: set[int] = set()
        environ = {
            **os.environ,
            "SSE_TEST_FOLDER": str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environ["SSE_TEST_HUB"] = json.dumps({"keepalive": 0.2, "drain_seconds": 0.3, **(hub or {})})
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        self._masters.add(self.process.pid)

    # ---- what happens ----

    def wait_for(self, kind: str, *, pid: int | None = None, ppid: int | None = None) -> dict[str, Any]:
        """Wait for a notice and take it; others are kept for later."""
        deadline = time.monotonic() + WAIT
        while True:
            for notice in self._seen:
                if notice["kind"] == kind and pid in (None, notice["pid"]) and ppid in (None, notice["ppid"]):
                    self._seen.remove(notice)
                    return notice
            self._notices.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                self._seen.append(json.loads(self._notices.recv(65536)))
            except TimeoutError:
                raise AssertionError(f"no notice {kind!r} came; the log:\n{self.log()}") from None

    def log(self) -> str:
        """Everything that the server has written."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that was started: under gunicorn the master."""
        return self.process.pid

    def workers(self, master: int | None = None) -> list[int]:
        """The children of a master that have opened their side door, by pid."""
        pid = master or self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if (self.folder / child).exists()]

    @property
    def worker(self) -> int:
        """The one process that serves."""
        workers = self.workers() or [self.pid]
        assert len(workers) == 1, workers
        return workers[0]

    def adopt_master(self, pid: int) -> None:
        """Stop this one too at the end."""
        self._masters.add(pid)

    # ---- the side door ----

    def ask(self, do: str, *, pid: int | None = None, **fields: Any) -> dict[str, Any]:
        """Send a command to the side door of a worker."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(WAIT)
            door.connect(str(self.folder / str(pid or self.worker)))
            door.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(door.makefile("rb").readline())
            return answer

    def stats(self, pid: int | None = None) -> dict[str, int]:
        """The counters of a worker's hub, and its nr_conns and threads."""
        return self.ask("stats", pid=pid)

    def publish_aside(self, topic: str, data: str, *, pid: int | None = None) -> str:
        """Publish without a request; return the event's id."""
        event_id: str = self.ask("publish", pid=pid, topic=topic, data=data)["id"]
        return event_id

    # ---- requests ----

    def stream(self, topics: str = "a", **options: Any) -> StreamReader:
        """Open a stream of `topics` (space-separated)."""
        path = options.pop("path", "/events")
        return StreamReader(self.address, f"{path}?{'&'.join(f'topic={topic}' for topic in topics.split())}", **options)

    def publish(self, topic: str, data: str) -> str:
        """Publish by a request; return the event's id."""
        status, _, body = self.request("POST", f"/publish?{urlencode({'topic': topic, 'data': data})}")
        assert status == 200, body
        event_id: str = json.loads(body)["id"]
        return event_id

    def request(self, method: str, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Make one request on a connection of its own."""
        with contextlib.closing(connection_to(self.address)) as connection:
            return exchange(connection, method, target, **headers)

    def connect(self) -> socket.socket:
        """A bare connection."""
        connection = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        connection.settimeout(WAIT)
        connection.connect(self.address)
        return connection

    def send(self, data: bytes) -> socket.socket:
        """A bare connection on which `data` was sent."""
        connection = self.connect()
        connection.sendall(data)
        return connection

    # ---- ends ----

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        """Send a signal to the server, or to one of its processes."""
        os.kill(pid or self.pid, number)

    def wait(self) -> int:
        """Wait for the end of the server that was started; return its exit code."""
        return self.process.wait(WAIT)

    def stop(self) -> None:
        """End all masters and, whatever happened, all of their workers."""
        families = [pid for master in self._masters for pid in (master, *self._family(master))]
        for master in self._masters:
            _kill(master, signal.SIGTERM)
        for pid in families:
            if not _wait_for_end(pid, WAIT):
                _kill(pid, signal.SIGKILL)
        self.process.wait(WAIT)
        self._notices.close()

    def _family(self, pid: int) -> list[int]:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            return []
        return [int(child) for child in children]


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_for_end(pid: int, seconds: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended."""
    assert _wait_for_end(pid, WAIT), f"process {pid} did not end"


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds that only asking can tell."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def back_to_rest(server: Server, *, nr_conns: bool = True) -> Iterator[None]:
    """Check that after the block the worker is where it was: descriptors, connections, no stream.

    The first use of a hub opens descriptors for good, so a stream comes and goes before the count.
    """
    pid = server.worker
    # The pool of a threaded server grows with the first requests, and the count of threads is no part of this.
    with server.stream("warm-up") as warm_up:
        server.publish_aside("warm-up", "x")
        warm_up.read()
    until(lambda: server.stats(pid)["streams"] == 0, "the first stream is gone")
    if nr_conns:
        until(lambda: server.stats(pid)["nr_conns"] == 0, "the first connection is gone")
    before = server.stats(pid)["descriptors"]
    yield
    until(lambda: server.stats(pid)["streams"] == 0, "no stream is left")
    if nr_conns:
        until(lambda: server.stats(pid)["nr_conns"] == 0, "gunicorn counts no connection")
    until(lambda: server.stats(pid)["descriptors"] == before, f"{before} descriptors, as before")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WAIT)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT)
        self.sock.connect(self._path)


def connection_to(address: Address) -> http.client.HTTPConnection:
    """An HTTP/1.1 connection that can be used for several requests."""
    if isinstance(address, str):
        return _UnixConnection(address)
    return http.client.HTTPConnection(*address, timeout=WAIT)


def exchange(
    connection: http.client.HTTPConnection, method: str, target: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Make a request and read the whole answer."""
    connection.request(method, target, headers=headers)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def read_all(connection: socket.socket) -> bytes:
    """Read to the end of the connection. Unlike `StreamReader` it lets a reset through."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, *, hub: dict[str, Any] | None, errors: bool, ready: int = 1
) -> Iterator[Server]:
    server = Server(command, folder, hub=hub)
    try:
        for _ in range(ready):
            notice = server.wait_for("ready")
            server.address = notice.get("address", server.address)
        if isinstance(server.address, list):
            server.address = (server.address[0], server.address[1])
        yield server
    finally:
        server.stop()
        log = server.log()
        shutil.rmtree(folder)
    for sign in () if errors else ("Traceback", "[ERROR]", "[CRITICAL]"):
        assert sign not in log, log


@contextlib.contextmanager
def gunicorn(
    worker_class: str = EVENT_WORKER,
    *,
    app: str = "wsgi",
    threads: int = 1,
    workers: int = 1,
    tcp: bool = False,
    hub: dict[str, Any] | None = None,
    errors: bool = False,
    **settings: Any,
) -> Iterator[Server]:
    """Run gunicorn. ``settings`` are its command line's, ``True`` for a flag; ``errors``: the log may hold errors."""
    folder = Path(tempfile.mkdtemp(prefix="sse-"))
    port = free_port() if tcp else 0
    settings = {"graceful-timeout": 6, **{name.replace("_", "-"): value for name, value in settings.items()}}
    command = [
        sys.executable, "-m", "gunicorn", "-c", f"{ROOT}/tests/integration/apps/gunicorn_conf.py",
        "-b", f"127.0.0.1:{port}" if tcp else f"unix:{folder}/http", "-k", worker_class, "-w", str(workers),
        "--threads", str(threads), "-p", f"{folder}/pid", "--worker-tmp-dir", "/dev/shm",
        *(text for name, value in settings.items() for text in ([f"--{name}"] if value is True else [f"--{name}", str(value)])),
        f"tests.integration.apps.{app}:application",
    ]  # fmt: skip
    with _running(command, folder, hub=hub, errors=errors, ready=workers) as server:
        if tcp:
            server.address = ("127.0.0.1", port)
        yield server


@contextlib.contextmanager
def library_server(name: str, *, threads: int = 1, hub: dict[str, Any] | None = None) -> Iterator[Server]:
    """Run ``waitress`` or ``wsgiref``."""
    folder = Path(tempfile.mkdtemp(prefix="sse-"))
    command = [sys.executable, "-m", "tests.integration.apps.serve", name, str(threads)]
    with _running(command, folder, hub=hub, errors=False) as server:
        yield server
