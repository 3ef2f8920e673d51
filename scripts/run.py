#!/usr/bin/env python3
"""Run the whole of sse-kit on this machine: gunicorn on a unix socket, nginx in front, until Ctrl-C.

With ``--redis`` gunicorn has two workers, joined by a Redis of their own. Everything is written below one folder (``run/``):
sockets, nginx's configuration, Redis' data, logs, temporary files. All processes are stopped by their own pids: gunicorn
first, so that nginx can still pass on what it tells its streams, and Redis last.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sse_kit.nginxkit.files import render
from sse_kit.nginxkit.program import command as nginx_command
from sse_kit.nginxkit.program import find
from sse_kit.nginxkit.site import Site

# gunicorn gives its streams 5 s and its requests 30 s to end, and then ends by itself; nginx closes within 10 s.
STOP_SECONDS = 40.0
START_SECONDS = 30.0
PORTS_TO_TRY = 20
SOCKET = "gunicorn.sock"
REDIS_SOCKET = "redis.sock"
# By the way of the folder that gunicorn is started in: a unix socket's address has 107 bytes at most.
REDIS_URL = f"unix:///proc/self/cwd/{REDIS_SOCKET}"
REDIS_WORKERS = 2
# The page's own example of a key that is watched.
WATCHED_KEY = "current_price"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class StopRequested(Exception):
    """Ctrl-C, TERM, or the terminal went away."""


class StartFailedError(Exception):
    """The reason, for a person to read."""


class Child:
    """One process, its name and its log. It is told to stop even if this process is killed."""

    def __init__(
        self, name: str, command: list[str], *, cwd: Path, log: Path, defaults: Mapping[str, str] | None = None
    ) -> None:
        """``defaults`` are variables of its environment that ours does not have."""
        self.name = name
        self.log = log
        self._start_of_log = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**(defaults or {}), **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Not in the terminal's process group: Ctrl-C would end it at once, its streams without a word.
                start_new_session=True,
                preexec_fn=_stop_with_parent,
            )

    def last_lines(self, count: int = 15) -> str:
        """Return the end of what it has logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._start_of_log)
            lines = log.read().decode("utf-8", "replace").splitlines()
        return "\n".join("    " + line for line in lines[-count:])

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(1 if at_once else STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Workers whose master was killed: nginx's would go on for ever, and keep the port.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _stop_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def free_port(host: str, first: int) -> int:
    """Return the first port from ``first`` on that nobody listens on."""
    for port in range(first, min(first + PORTS_TO_TRY, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError:
                raise StartFailedError(
                    f"only root may listen on port {port}; say another: make run PORT=8080"
                ) from None
            except OSError:
                continue
            return port
    raise StartFailedError(f"no free port on {host} from {first} on; say another: make run PORT=...")


def start_redis(run: Path) -> Child:
    """Start a Redis in ``run`` that only this user can reach, and that keeps what it is told over a restart."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise StartFailedError("there is no redis-server; `make run REDIS=1` installs it")
    data = run / "redis"
    data.mkdir(exist_ok=True)
    (run / REDIS_SOCKET).unlink(missing_ok=True)
    settings = ["--port", "0", "--unixsocket", f"../{REDIS_SOCKET}", "--unixsocketperm", "700"]
    settings += ["--dir", str(data), "--appendonly", "yes", "--save", ""]
    # So that keys can be watched without polling.
    settings += ["--notify-keyspace-events", "K$gxe"]
    return Child("redis", [redis, *settings], cwd=run, log=run / "logs" / "redis.log")


def start(run: Path, host: str, port: int, children: list[Child], *, with_redis: bool) -> None:
    """Start what is to run in ``run`` and add it to ``children``, in the order in which to stop it."""
    logs = run / "logs"
    # Relative to the folder both are started in: an absolute path may exceed the 107 bytes of a socket's address.
    address = f"unix:{SOCKET}"
    # What a killed run has left is not the new gunicorn's.
    (run / SOCKET).unlink(missing_ok=True)
    program = find()
    if program is None:
        raise StartFailedError("there is no nginx; `make build` installs it")
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    render(run, Site(listen=[listen], upstream=[address]), version=program.version)
    nginx = nginx_command(run, program)
    gunicorn = [str(Path(sys.executable).with_name("sse-kit")), "serve", "--bind", address]
    gunicorn += ["--log", f"nginx={logs / 'access.log'}"]
    defaults: dict[str, str] = {}
    if with_redis:
        defaults["SSE_KIT_WATCH_KEYS"] = json.dumps([WATCHED_KEY])
        gunicorn += ["--backplane", REDIS_URL, "--workers", str(REDIS_WORKERS)]
        # The first to start, the last to stop.
        children.append(start_redis(run))
    children.insert(0, Child("gunicorn", gunicorn, cwd=run, log=logs / "gunicorn.log", defaults=defaults))
    children.insert(1, Child("nginx", nginx, cwd=run, log=logs / "nginx.log"))


def check(children: list[Child]) -> None:
    """Raise `StartFailedError` with the end of its log if one of them has ended."""
    for child in children:
        status = child.process.poll()
        if status is not None:
            raise StartFailedError(
                f"{child.name} ended with status {status}. The end of {child.log}:\n{child.last_lines()}"
            )


def wait_for_page(run: Path, host: str, port: int, children: list[Child]) -> None:
    """Return when the page answers through nginx."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        check(children)
        if not (run / SOCKET).exists():
            # Asked now, nginx would only fill its logs with what everybody knows.
            time.sleep(0.05)
            continue
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    last = "\n".join(f"{child.name}, {child.log}:\n{child.last_lines()}" for child in children)
    raise StartFailedError(f"the page did not answer within {START_SECONDS:.0f} s.\n{last}")


def _request_stop(number: int, frame: FrameType | None) -> NoReturn:
    raise StopRequested


def serve(run: Path, host: str, port: int, *, with_redis: bool) -> None:
    """Start, say where, and supervise until a signal comes or one of the children ends."""
    children: list[Child] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    at_once = True
    try:
        start(run, host, port, children, with_redis=with_redis)
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        wait_for_page(run, local, port, children)
        at_once = False
        url = f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"
        redis = f"redis-cli -s {run / REDIS_SOCKET}"
        joined = f"""  watch     curl -N '{url}/watch/{WATCHED_KEY}', and {redis} SET {WATCHED_KEY} 100

  {REDIS_WORKERS} workers on Redis: {redis}
"""
        print(
            f"""
  {url}/

  listen    curl -N '{url}/events?topic=demo'
  publish   curl -H 'Content-Type: application/json' -d '{{"topic": "demo", "data": "hello"}}' {url}/publish
{joined if with_redis else ""}
  Logs are in {run / "logs"}. Ctrl-C stops {" and ".join(child.name for child in children)}.""",
            flush=True,
        )
        while True:
            check(children)
            time.sleep(0.2)
    except StopRequested:
        print("\nStopping: open streams are told when to come back. Ctrl-C again stops at once.", flush=True)
    finally:
        for child in children:
            try:
                child.stop(at_once=at_once)
            except StopRequested:
                at_once = True
                child.stop(at_once=True)


def main() -> None:
    """Read the command line, take the folder, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port, or the next free one (default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("run"), help="where all is written (default: %(default)s)")
    parser.add_argument("--redis", action="store_true", help="two workers, joined by a Redis that is started, too")
    options = parser.parse_args()
    run: Path = options.run_dir.resolve()
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another `make run` uses {run}.")
        try:
            port = free_port(options.host, options.port)
            if port != options.port:
                print(f"Port {options.port} is taken; using {port}.", flush=True)
            serve(run, options.host, port, with_redis=options.redis)
        except StartFailedError as error:
            sys.exit(f"sse-kit: {error}")


if __name__ == "__main__":
    main()
