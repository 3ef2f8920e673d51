"""`Heart`: the thread that keeps the clocks of namespaces going, and tells Redis who listens in this process.

Each process beats; a beat within the last moment, whoever made it, is enough. So there is one a second for a namespace,
however many processes it has, and the horizon and the ids that silent clients are told never age.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from typing import TypeVar

from sse_core.backplane.redis import audience, commands
from sse_core.backplane.redis.reader import Member
from sse_core.backplane.redis.topology import Topology, is_retryable
from sse_core.errors import HubClosedError

_K = TypeVar("_K", bound=Hashable)

_log = logging.getLogger("sse_core.backplane.redis")

#: Seconds between beats, and the least between two of them by different processes, in milliseconds.
_EVERY = 1.0
_INTERVAL_MS = 800
#: Seconds between reports of who listens, and how long one holds.
_REPORT_EVERY = 3.0
_REPORT_HOLDS = 10.0


class _Report:
    """What was told last, so that only changes are told."""

    def __init__(self) -> None:
        self.at = 0.0
        self.streams: dict[str, int] = {}
        self.present: dict[tuple[str, str], int] = {}
        self.told = False


class Heart:
    """Beats for all members of a process, from construction until the last of them is closed."""

    def __init__(self, topology: Topology, worker: str) -> None:
        self._topology = topology
        self._worker = worker
        self._lock = threading.Lock()
        self._members: dict[str, tuple[Member, _Report]] = {}
        self._ended = False
        self._thread: threading.Thread | None = None

    def is_alive(self) -> bool:
        """Whether members may be added."""
        return not self._ended

    def add(self, member: Member) -> None:
        """Beat for a member, too."""
        with self._lock:
            self._members[member.names.namespace] = member, _Report()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sse-redis-heart", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                members = list(self._members.values())
            for member, report in members:
                if member.closed:
                    self._remove(member)
                    continue
                try:
                    self._beat(member, report)
                    member.ailing = False
                except HubClosedError:
                    continue
                except Exception as error:
                    if not member.ailing:
                        _log.warning("Redis does not answer: %s", error)
                    if not is_retryable(error):
                        _log.exception("A beat failed.")
                    member.ailing = True
                    self._refresh()
            with self._lock:
                if not self._members:
                    self._ended = True
                    return
            time.sleep(_EVERY)

    def _refresh(self) -> None:
        try:
            self._topology.refresh()
        except Exception as error:
            _log.debug("Redis could not be asked for its primaries: %s", error)

    def _beat(self, member: Member, report: _Report) -> None:
        client = self._topology.client(member.names.namespace)
        commands.beat(client, member.names, interval_ms=_INTERVAL_MS)
        if time.monotonic() - report.at < _REPORT_EVERY:
            return
        streams = {topic: count for topic, count in member.receiver.audience().items() if count}
        present = member.receiver.presence()
        if report.told:
            changes = _changes(report.streams, streams), _changes(report.present, present)
            report.told = audience.report(
                client, member.names, self._worker, *changes, whole=False, seconds=_REPORT_HOLDS
            )
        if not report.told:
            audience.report(client, member.names, self._worker, streams, present, whole=True, seconds=_REPORT_HOLDS)
        report.at, report.streams, report.present, report.told = time.monotonic(), streams, present, True

    def _remove(self, member: Member) -> None:
        with self._lock:
            del self._members[member.names.namespace]
        try:
            audience.leave(self._topology.client(member.names.namespace), member.names, self._worker)
        except Exception as error:
            # Its keys expire.
            _log.debug("The end of a worker could not be told: %s", error)


def _changes(before: dict[_K, int], now: dict[_K, int]) -> dict[_K, int]:
    """What has another count now; what is gone has 0."""
    changes = {key: count for key, count in now.items() if before.get(key) != count}
    changes |= {key: 0 for key in before if key not in now}
    return changes
