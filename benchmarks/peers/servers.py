"""The peers, each as it is meant to be run, with one worker: a context that yields a `Server`."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..children.grip_app import CHANNEL
from ..effort import Effort
from ..flask_sse import flask_server
from ..harness import (
    FOLDER,
    START_SECONDS,
    BenchmarkError,
    Server,
    address_for,
    answers,
    free_port,
    gunicorn_server,
    kit_server,
    last_words,
    redis_server,
    running,
)
from ..nginx_front import nginx_front

#: Events published at once, to see what a server gains from it.
BURST = 20

#: Seconds, as nginx has it: with less a publisher finds its connection closed after a phase of silence.
_KEEPALIVE = "75"

#: Where distributions put what nginx loads.
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

_NGINX = """\
load_module {module};
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    server {{
        listen {address} backlog=4096;
        location = /events {{
            nchan_subscriber eventsource;
            nchan_channel_id {channel};
            nchan_subscriber_first_message newest;
        }}
        location = /publish {{
            nchan_publisher;
            nchan_channel_id {channel};
        }}
        location = /healthz {{ return 200; }}
    }}
}}
"""

_PUSHPIN = """\
[global]
include={{libdir}}/internal.conf
rundir={folder}
ipc_prefix=pushpin-
port_offset=0
[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=
local_ports={folder}/server.sock
logdir={folder}
log_level=1
client_buffer_size=8192
client_maxconn=19000
[proxy]
routesfile=routes
zurl_out_specs=ipc://{folder}/pushpin-zurl-in
zurl_out_stream_specs=ipc://{folder}/pushpin-zurl-in-stream
zurl_in_specs=ipc://{folder}/pushpin-zurl-out
[handler]
push_in_spec=ipc://{folder}/push
push_in_sub_specs=ipc://{folder}/sub
push_in_http_addr=127.0.0.1
push_in_http_port={port}
stats_spec=ipc://{folder}/stats
command_spec=ipc://{folder}/command
message_rate=1000000
message_hwm=1000000
"""

_Serve = Callable[[Effort, int], contextlib.AbstractContextManager[Server]]


@dataclass(frozen=True)
class Peer:
    """A server to be measured."""

    #: As tables and plots name it.
    name: str
    #: How it is run, in words.
    how: str
    #: Run it for so many streams.
    serve: _Serve
    #: Whether it is ours.
    ours: bool = False
    #: Streams that one worker of it has room for on a machine that allows 20,000 open files.
    most: int = 19_000
    #: Events that a burst has at most, where a stream's queue holds no more.
    burst: int = BURST


@contextlib.contextmanager
def _memory(effort: Effort, _: int) -> Iterator[Server]:
    with kit_server(effort) as server:
        yield server


@contextlib.contextmanager
def _redis(effort: Effort, _: int) -> Iterator[Server]:
    with redis_server(effort) as redis, kit_server(effort, redis) as server:
        yield server


@contextlib.contextmanager
def _behind_nginx(effort: Effort, _: int) -> Iterator[Server]:
    with kit_server(effort) as server, nginx_front(server, effort) as front:
        yield front.server


@contextlib.contextmanager
def _flask_sse(effort: Effort, streams: int) -> Iterator[Server]:
    with redis_server(effort) as redis, flask_server(effort, redis) as server:
        yield server


@contextlib.contextmanager
def _threads(effort: Effort, streams: int) -> Iterator[Server]:
    # One for each stream, and some for publishing.
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--workers", "1", "--threads", str(streams + 64)]
    command += ["--worker-connections", str(streams + 1000), "--no-control-socket", "--log-level", "warning"]
    command += ["--keep-alive", _KEEPALIVE, "--graceful-timeout", "1", "benchmarks.children.threads_app:app"]
    with gunicorn_server(command, "/healthz", (), effort, None) as server:
        yield server


@contextlib.contextmanager
def _uvicorn(effort: Effort, application: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        address = address_for(effort, folder)
        host, _, port = address.rpartition(":")
        where = ["--host", host, "--port", port] if effort.tcp else ["--uds", address.removeprefix("unix:")]
        command = [sys.executable, "-m", "uvicorn", application, *where, "--loop", "uvloop", "--http", "httptools"]
        command += [
            "--backlog",
            "4096",
            "--no-access-log",
            "--log-level",
            "warning",
            "--timeout-keep-alive",
            _KEEPALIVE,
            "--timeout-graceful-shutdown",
            "1",
        ]
        with _server(command, address, effort) as server:
            yield server


@contextlib.contextmanager
def _sse_starlette(effort: Effort, _: int) -> Iterator[Server]:
    with _uvicorn(effort, "benchmarks.children.starlette_app:app") as server:
        yield server


@contextlib.contextmanager
def _django_eventstream(effort: Effort, _: int) -> Iterator[Server]:
    with _uvicorn(effort, "benchmarks.children.django_app:app") as server:
        yield server


@contextlib.contextmanager
def _nchan(effort: Effort, _: int) -> Iterator[Server]:
    program = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if program is None or not _NCHAN.exists():
        raise BenchmarkError("Nchan is not installed: apt-get install libnginx-mod-nchan")
    with tempfile.TemporaryDirectory() as folder:
        address = address_for(effort, folder)
        config = Path(folder, "nginx.conf")
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        config.write_text(
            _NGINX.format(module=_NCHAN, folder=folder, files=files, address=address, channel=CHANNEL),
            encoding="utf-8",
        )
        # As root it would give its worker to a user who may not write into this folder.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        with _server([program, "-p", folder, "-c", str(config), "-e", "stderr", *user], address, effort) as server:
            yield server


@contextlib.contextmanager
def _pushpin(effort: Effort, _: int) -> Iterator[Server]:
    program = shutil.which("pushpin")
    if program is None:
        raise BenchmarkError("Pushpin is not installed: apt-get install pushpin")
    behind = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--workers", "1", "--threads", "8"]
    behind += [
        "--no-control-socket",
        "--log-level",
        "warning",
        "--keep-alive",
        _KEEPALIVE,
        "benchmarks.children.grip_app:app",
    ]
    # It reaches what is behind it by TCP only, and is told so; what is measured is in front.
    tcp = Effort(effort.rounds, effort.seconds, effort.quick, True, effort.core)
    with gunicorn_server(behind, "/healthz", (), tcp, None) as origin, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        Path(folder, "pushpin.conf").write_text(_PUSHPIN.format(folder=folder, port=port), encoding="utf-8")
        Path(folder, "routes").write_text(f"* {origin.address}\n", encoding="utf-8")
        # Of streams that are opened at once it ends some ("received message out of sequence"), which a browser opens anew.
        where = (
            "--window",
            "4",
            "--again",
            "1000",
            "--publish-connect",
            f"127.0.0.1:{port}",
            "--publish-path",
            "/publish/",
        )
        before = f'{{"items":[{{"channel":"{CHANNEL}","formats":{{"http-stream":{{"content":"data: '
        options = (*where, "--publish-before", before, "--publish-after", '\\n\\n"}}}]}')
        command = [program, "--config", f"{folder}/pushpin.conf"]
        with _server(command, f"unix:{folder}/server.sock", effort, options) as server:
            yield server


@contextlib.contextmanager
def _server(command: Sequence[str], address: str, effort: Effort, options: tuple[str, ...] = ()) -> Iterator[Server]:
    """Run a program, with all processes that it starts, from the moment on at which it answers anything."""
    with (
        tempfile.TemporaryFile() as log,
        running(command, effort.core, log=log, stdout=log, cwd=FOLDER.parent) as process,
    ):
        deadline = time.monotonic() + START_SECONDS
        while not answers(address, "/healthz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{Path(command[0]).name} did not start: {last_words(log)}")
            time.sleep(0.05)
        yield Server(address, (process.pid, *_descendants(process.pid)), options)


def _descendants(pid: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from _descendants(child)


PEERS = (
    Peer("sse-kit", "in memory, `EventWorker`", _memory, ours=True),
    Peer("sse-kit, Redis", "the same on Redis", _redis, ours=True),
    Peer("sse-kit, nginx", "in memory, behind the shipped nginx", _behind_nginx, ours=True, most=9_000),
    Peer("Nchan", "in nginx", _nchan),
    Peer("Pushpin", "condure, proxy and handler; publishes go to its own port", _pushpin),
    Peer("sse-starlette", "uvicorn with uvloop and httptools, a queue for each stream", _sse_starlette),
    Peer("django-eventstream", "uvicorn with uvloop and httptools, no storage", _django_eventstream, burst=5),
    Peer("a thread each", "gunicorn gthread, a queue for each stream", _threads),
    Peer("flask-sse", "gunicorn with gevent, Redis", _flask_sse, most=9_700),
)
