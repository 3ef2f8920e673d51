"""The metrics of all workers of one server, whichever of them is asked.

A scrape reaches one worker, a different one each time. So each worker listens on a unix socket in a folder that the master
made, answers whoever connects with its own metrics, and the one that was asked labels them by worker (its pid). They are
not added up: a worker that is replaced would take its counts out of the sums. prometheus-client's own way for several
processes, files that they share, knows no collectors that are read when asked, which all of ours are.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# A worker answers within milliseconds; one that is stopped shall not hold up the scrape.
ANSWER_SECONDS = 1.0
READ_BYTES = 65_536
LABEL = "worker"

_log = structlog.get_logger("sse_kit.peers")


class Peers(Collector):
    """Collects the metrics of all workers that have a socket in ``folder``; ``registry`` has those of this one."""

    def __init__(self, registry: CollectorRegistry, folder: Path) -> None:
        self._registry = registry
        self._folder = folder

    def start(self) -> None:
        """Answer the others from now on, on a thread of its own. To be called in the worker, after the fork."""
        listener = socket.socket(socket.AF_UNIX)
        # Of a dead worker that had the same pid.
        (self._folder / str(os.getpid())).unlink(missing_ok=True)
        with _Folder(self._folder) as folder:
            listener.bind(folder.path(str(os.getpid())))
        listener.listen()
        threading.Thread(target=self._answer, args=(listener,), name="peers", daemon=True).start()

    def collect(self) -> Iterator[Metric]:
        """Yield each family once, with the samples of every worker that answers."""
        own = str(os.getpid())
        families: dict[str, Metric] = {}
        for worker, text in [(own, generate_latest(self._registry).decode()), *self._others(own)]:
            for family in text_string_to_metric_families(text):
                found = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    found.add_sample(sample.name, {LABEL: worker, **sample.labels}, sample.value)
        yield from families.values()

    def _others(self, own: str) -> Iterator[tuple[str, str]]:
        with _Folder(self._folder) as folder:
            for worker in sorted(os.listdir(folder.fd)):
                if worker == own:
                    continue
                try:
                    yield worker, _ask(folder.path(worker))
                except ConnectionRefusedError:
                    # Its process is gone, and left this behind.
                    (self._folder / worker).unlink(missing_ok=True)
                except OSError as error:
                    _log.warning("metrics of a worker are missing", worker=worker, reason=str(error))

    def _answer(self, listener: socket.socket) -> None:
        # Else a signal that the kernel gave to this thread would be seen late by gunicorn.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.settimeout(ANSWER_SECONDS)
                    connection.sendall(generate_latest(self._registry))
                except OSError as error:
                    _log.debug("a worker did not wait for our metrics", reason=str(error))


class _Folder:
    """A folder whose sockets have short paths: an address has 107 bytes at most, and the folder's own may have more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> str:
        return f"/proc/self/fd/{self.fd}/{name}"

    def __enter__(self) -> _Folder:
        self.fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _ask(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        return b"".join(iter(lambda: connection.recv(READ_BYTES), b"")).decode()


def share(registry: CollectorRegistry, folder: Path) -> CollectorRegistry:
    """Return a registry of all workers of the server, and begin to answer the others with this one's ``registry``."""
    peers = Peers(registry, folder)
    peers.start()
    shared = CollectorRegistry(auto_describe=False)
    shared.register(peers)
    return shared
