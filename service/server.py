"""gunicorn around the application: its settings with their reasons, in one place.

Streams are handed over to native loops by `EventWorker`, so threads and connections below are those of ordinary requests.
"""

from __future__ import annotations

import atexit
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import falcon
import structlog
from gunicorn.app.base import BaseApplication

from .identities import check_bind, create_authenticator, create_tokens
from .logging import GunicornLogger, configure
from .metrics import ConnectionCollector, create_registry
from .namespaces import Namespaces
from .peers import share
from .settings import Settings

# Descriptors that are no streams: listeners, loops, logs, libraries, requests on their way in.
SPARE_DESCRIPTORS = 256
# What each further namespace adds to them: its loops, and its part of the backplane.
NAMESPACE_DESCRIPTORS = 16


class TooManyWorkersError(ValueError):
    """More than one worker process was asked for without a backplane: each would have ids and history of its own."""


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings by name. Raises `TooManyWorkersError`."""
    if settings.workers > 1 and not settings.joins_processes:
        raise TooManyWorkersError(
            f"{settings.workers} workers were asked for, but ids and history live in one process's memory: a client would "
            "see only what is published through the worker that serves it. Use 1 worker and more threads, or join the "
            "workers by a backplane: --backplane redis://HOST:PORT"
        )
    return {
        "bind": settings.bind,
        "worker_class": "sse_core.worker.EventWorker",
        "workers": settings.workers,
        "threads": settings.threads,
        # Streams leave this count when they are handed over (their bound is max_streams): here are requests and idle
        # HTTP connections, of which nginx holds a few.
        "worker_connections": settings.worker_connections,
        "backlog": settings.backlog,
        # Longer than nginx's keepalive_timeout for the upstream (60 s): the side that reuses connections must be the one
        # that closes them. Otherwise nginx sends a publish into a connection that gunicorn is closing, and since a POST
        # is not repeated, it is lost.
        "keepalive": settings.http_keepalive,
        "timeout": settings.timeout,
        "graceful_timeout": settings.graceful_timeout,
        # What nginx takes, which answers 414 beyond it: the prompt of GET /generate is in the address.
        "limit_request_line": settings.max_request_line_bytes,
        "limit_request_field_size": settings.max_header_bytes,
        "limit_request_fields": settings.max_headers,
        # Of a proxy on TCP. The peer of a unix socket is always believed: who may connect is the file's mode.
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        # On by default in $HOME, which may be read-only, and nothing here uses it.
        "control_socket_disable": True,
        # Nothing may start before the fork; and with it a HUP would go on with the old code.
        "preload_app": False,
        # It would end all streams of the worker at once.
        "max_requests": 0,
        "logger_class": GunicornLogger,
        "loglevel": settings.log_level,
        "proc_name": "sse-kit",
    }


class Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    """Runs the application under gunicorn with ``settings``. `run` returns by SystemExit only."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings. Raises `TooManyWorkersError`, `AnonymousError`, and `ConfigurationError` for what cannot be."""
        # Before the fork, where an error can still be told to whoever typed the command. It is thrown away unused.
        Namespaces(settings)
        create_authenticator(settings, create_tokens(settings))
        check_bind(settings)
        self._gunicorn_settings = gunicorn_settings(settings)
        self._settings = settings
        self._connections = ConnectionCollector()
        # Where workers find each other; made before the fork, by `run`.
        self._folder: Path | None = None
        super().__init__(prog="sse-kit")

    def load_config(self) -> None:
        """Take over our settings; gunicorn's files and environment variables are not read."""
        for name, value in self._gunicorn_settings.items():
            self.cfg.set(name, value)
        self.cfg.set("post_worker_init", self._watch)

    def load(self) -> falcon.App[Any, Any]:
        """Make the application, in the worker, after the fork."""
        from .app import create_app

        namespaces = Namespaces(self._settings)
        # Of hubs that had a stream the worker takes care itself; logs, and hubs that were published to, wait for this.
        atexit.register(namespaces.close)
        namespaces.start()
        registry = create_registry(namespaces)
        registry.register(self._connections)
        if self._folder is not None:
            registry = share(registry, self._folder)
        return create_app(self._settings, namespaces=namespaces, registry=registry)

    def run(self) -> None:
        """Serve until told to stop by a signal."""
        configure(self._settings)
        self._settings = within_open_files(self._settings, raise_open_files())
        if self._settings.workers > 1:
            self._folder = Path(tempfile.mkdtemp(prefix="sse-kit-"))
            self.cfg.set("on_exit", self._remove_folder)
        super().run()

    def _watch(self, worker: Any) -> None:
        """In the worker, once it has loaded the application."""
        self._connections.watch(worker.connection_stats)

    def _remove_folder(self, arbiter: object) -> None:
        """At the end of the master, and of nobody else, unlike `atexit`, which its workers inherit."""
        assert self._folder is not None
        shutil.rmtree(self._folder, ignore_errors=True)


def raise_open_files() -> int | None:
    """Raise the soft limit of open files to the hard one and return it; None for no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return None if hard == resource.RLIM_INFINITY else hard


def within_open_files(settings: Settings, open_files: int | None) -> Settings:
    """Return settings with no more streams than the limit of open files has room for, and log if that is fewer.

    Beyond that limit an accept fails, and with it health checks and publishing; beyond max_streams a client is told to
    come back. Connections count twice: as many again may be on their way out (`sse_core.parting`).
    """
    if open_files is None:
        return settings
    spare = SPARE_DESCRIPTORS + NAMESPACE_DESCRIPTORS * (len(settings.namespaces) - 1)
    room = max(1, open_files - 2 * settings.worker_connections - spare)
    if settings.max_streams <= room:
        return settings
    structlog.get_logger("sse_kit.server").warning(
        "fewer streams than max_streams: the limit of open files is reached before",
        max_streams=room,
        wanted=settings.max_streams,
        open_files=open_files,
    )
    return settings.model_copy(update={"max_streams": room})
