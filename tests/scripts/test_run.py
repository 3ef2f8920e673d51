"""`make run`'s script, as a person starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from sse_core.testing import StreamReader
from tests.nginx_server import short_folder
from tests.ports import free_port

SCRIPT = Path(__file__).parents[2] / "scripts/run.py"
WAIT = 60.0


def children(pid: int) -> list[int]:
    """Return the children of a process by pid, the oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Run:
    """The script in a folder of its own, and what it has printed up to now."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.folder = folder
        self.printed = ""
        command = [sys.executable, str(SCRIPT), "--run-dir", str(folder), "--port", str(port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_until_printed(self, text: str) -> None:
        """Read lines until one has ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was never printed:\n{self.printed}")

    def wait(self) -> int:
        """Wait for the end, read the rest, return the status."""
        rest, _ = self.process.communicate(timeout=WAIT)
        self.printed += rest
        return self.process.returncode

    def children(self) -> list[int]:
        """The pids of gunicorn's and nginx's masters, in this order; that of Redis, if there is one, before them."""
        return children(self.process.pid)

    def family(self) -> list[int]:
        """The pids of both masters and all of their workers."""
        return [pid for master in self.children() for pid in (master, *children(master))]

    @property
    def port(self) -> int:
        """Where the page is, as printed."""
        (port,) = re.findall(r"^ +http://127\.0\.0\.1:(\d+)/$", self.printed, re.MULTILINE)
        return int(port)


@contextlib.contextmanager
def running(folder: Path, port: int, *options: str) -> Iterator[Run]:
    """Start the script and stop it whatever happens."""
    run = Run(folder, port, *options)
    try:
        yield run
    finally:
        run.process.terminate()
        run.process.communicate(timeout=WAIT)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = short_folder()
    yield path
    shutil.rmtree(path)


def wait_for_ends(pids: list[int]) -> None:
    """Wait until none of the processes exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            ended, _, _ = select.select([handle], [], [], WAIT)
            os.close(handle)
            assert ended, f"{pid} goes on"


def wait_for_line(log: Path, part: str) -> None:
    """Wait until a line of a log holds `part`: nginx writes it after the answer has been sent."""
    deadline = time.monotonic() + WAIT
    while not any(part in line for line in log.read_text().splitlines()):
        assert time.monotonic() < deadline, f"no line of {log} has {part}"
        time.sleep(0.01)


def request(port: int, method: str, target: str, body: str | None = None) -> tuple[int, bytes]:
    """Make one request of the page's server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def test_all_runs_until_it_is_told_to_stop(folder: Path) -> None:
    """When the address is printed the page answers there; TERM stops gunicorn and nginx, and leaves nothing behind."""
    with running(folder, free_port()) as run:
        run.wait_until_printed("Ctrl-C")
        family = run.family()
        status, page = request(run.port, "GET", "/")
        (published,) = re.findall(r"-d '(.+)' http", run.printed)

        assert status == 200
        assert b"<title>sse-kit</title>" in page
        assert request(run.port, "POST", "/publish", published)[0] == 200
        wait_for_line(folder / "logs/access.log", '"path":"/publish"')

        run.process.terminate()
        assert run.wait() == 0
        wait_for_ends(family)


def test_two_workers_on_redis(folder: Path) -> None:
    """With Redis there are two workers and one service, which remembers over a stop; nothing is left running."""
    with running(folder, free_port(), "--redis") as run:
        run.wait_until_printed("Ctrl-C")
        family = run.family()
        redis, gunicorn, _ = run.children()
        status, receipt = request(run.port, "POST", "/publish", '{"topic":"a","data":"kept"}')
        deadline = time.monotonic() + WAIT
        while (topics := json.loads(request(run.port, "GET", "/topics")[1]))["workers"] < 2:
            assert time.monotonic() < deadline, topics
            time.sleep(0.05)

        assert (status, len(children(gunicorn))) == (200, 2)
        assert Path(f"/proc/{redis}/comm").read_text().startswith("redis-server")
        assert "Ctrl-C stops gunicorn and nginx and redis" in run.printed
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0
        wait_for_ends(family)

    with running(folder, free_port(), "--redis") as run:
        run.wait_until_printed("Ctrl-C")
        with StreamReader(("127.0.0.1", run.port), "/events?topic=a&last_event_id=0-0") as reader:
            (event,) = reader.read()
        with StreamReader(("127.0.0.1", run.port), "/watch/current_price") as reader:
            (absent,) = reader.read()
            with Redis(unix_socket_path=str(folder / "redis.sock")) as redis_client:
                redis_client.set("current_price", 100)
            (price,) = reader.read()

    assert [json.loads(each.data or "")["value"] for each in (absent, price)] == [None, "100"]
    assert (event.id, event.data) == (json.loads(receipt)["id"], "kept")


def test_redis_dies(folder: Path) -> None:
    """When Redis ends by itself the script says so, stops the others and fails."""
    with running(folder, free_port(), "--redis") as run:
        run.wait_until_printed("Ctrl-C")
        family = run.family()
        os.kill(run.children()[0], signal.SIGKILL)

        assert run.wait() == 1
        assert "redis ended with status -9" in run.printed
        wait_for_ends(family)


def test_ctrl_c_reaches_open_streams_as_a_retry(folder: Path) -> None:
    """Ctrl-C in the terminal sends streams away with a delay, through nginx, and does not just cut them."""
    with running(folder, free_port()) as run:
        run.wait_until_printed("Ctrl-C")
        with socket.create_connection(("127.0.0.1", run.port), timeout=WAIT) as client:
            client.sendall(b"GET /events?topic=a HTTP/1.0\r\n\r\n")
            received = b""
            while b"retry: 2000\n" not in received:
                received += client.recv(65536)
            run.process.send_signal(signal.SIGINT)
            received += b"".join(iter(lambda: client.recv(65536), b""))

        delays = [int(delay) for delay in re.findall(rb"^retry: (\d+)$", received, re.MULTILINE)]
        assert delays[0] == 2000
        assert len(delays) == 2
        assert 1000 <= delays[1] <= 5000
        assert run.wait() == 0


def test_a_port_that_is_taken(folder: Path) -> None:
    """A taken port is told, and another one is used."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with running(folder, taken) as run:
            run.wait_until_printed("Ctrl-C")

            assert f"Port {taken} is taken" in run.printed
            assert run.port != taken
            assert request(run.port, "GET", "/readyz")[0] == 200


@pytest.mark.parametrize(("victim", "name"), [(0, "gunicorn"), (1, "nginx")])
def test_one_of_the_two_dies(folder: Path, victim: int, name: str) -> None:
    """When one ends by itself the script says which, shows the end of its log, stops the other and fails."""
    with running(folder, free_port()) as run:
        run.wait_until_printed("Ctrl-C")
        family = run.family()
        os.kill(run.children()[victim], signal.SIGKILL)

        assert run.wait() == 1
        assert f"{name} ended with status -9" in run.printed
        assert f"{name}.log:" in run.printed
        wait_for_ends(family)


def test_the_script_is_killed(folder: Path) -> None:
    """Even if the script cannot clean up, gunicorn and nginx do not outlive it."""
    with running(folder, free_port()) as run:
        run.wait_until_printed("Ctrl-C")
        family = run.family()
        run.process.kill()

        wait_for_ends(family)


def test_two_in_one_folder(folder: Path) -> None:
    """A second one in the same folder is refused, and does the first no harm."""
    with running(folder, free_port()) as run:
        run.wait_until_printed("Ctrl-C")
        with running(folder, free_port()) as second:
            assert second.wait() == 1
            assert "Another `make run` uses" in second.printed

        assert request(run.port, "GET", "/")[0] == 200
