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
from sse_core.backplane.redis.member import Member
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


class Heart:
    """Beats for one namespace of a process, from construction until the member is closed.

    One thread each: a server that does not answer must not silence the namespaces of another.
    """

    def __init__(self, topology: Topology, worker: str, member: Member) -> None:
        self._topology = topology
        self._worker = worker
        self._member = member
        # What was told last, so that only changes are told.
        self._told = False
        self._told_at = 0.0
        self._streams: dict[str, int] = {}
        # Not what is present, which may be very many, but what has changed and is not told yet.
        self._changed: dict[tuple[str, str], int] = {}
        self._sent: dict[str, int] = {}
        name = f"sse-redis-heart-{member.names.namespace}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        member = self._member
        while not member.wait_for_close(_EVERY):
            try:
                # However Redis is: who has left is to be known before the engine's list of ends is full.
                changes = member.receiver.presence_changes()
                if self._told:
                    self._changed |= changes
                self._beat()
                member.ailing = False
                self._report()
            except HubClosedError:
                break
            except Exception as error:
                self._forget()
                if not is_retryable(error):
                    _log.exception("A beat failed.")
                elif not member.ailing:
                    _log.warning("Redis does not answer: %s", error)
                member.ailing = True
                self._refresh()
        try:
            audience.leave(self._topology.client(member.names.namespace), member.names, self._worker)
        except Exception as error:
            # Its keys expire.
            _log.debug("The end of a worker could not be told: %s", error)

    def _forget(self) -> None:
        """Tell the whole the next time: while Redis is away, changes would only pile up."""
        self._told, self._changed = False, {}

    def _refresh(self) -> None:
        try:
            self._topology.refresh()
        except Exception as error:
            _log.debug("Redis could not be asked for its primaries: %s", error)

    def _beat(self) -> None:
        client = self._topology.client(self._member.names.namespace)
        commands.beat(client, self._member.names, interval_ms=_INTERVAL_MS)

    def _report(self) -> None:
        """Tell how far streams are, and who listens if it is time. That it cannot be told stops nothing else."""
        try:
            self._tell_sent()
            if time.monotonic() - self._told_at >= _REPORT_EVERY:
                self._told_at = time.monotonic()
                self._tell()
        except HubClosedError:
            raise
        except Exception as error:
            self._forget()
            if is_retryable(error):
                # The next beat finds out whether Redis is away.
                _log.warning("Who listens here cannot be told: %s", error)
            else:
                _log.exception("Who listens here cannot be told.")

    def _tell_sent(self) -> None:
        """Tell up to where finite topics were sent: a producer elsewhere waits for it, when it is far ahead."""
        member = self._member
        sent = member.receiver.sent()
        if sent or self._sent:
            client = self._topology.client(member.names.namespace)
            audience.report_sent(client, member.names, self._worker, sent, seconds=_REPORT_HOLDS)
        self._sent = sent

    def _tell(self) -> None:
        member = self._member
        client = self._topology.client(member.names.namespace)
        streams = {topic: count for topic, count in member.receiver.audience().items() if count}
        if self._told:
            changes = _changes(self._streams, streams), self._changed
            self._told = audience.report(
                client, member.names, self._worker, *changes, whole=False, seconds=_REPORT_HOLDS
            )
        if not self._told:
            present = member.receiver.presence()
            self._told = audience.report(
                client, member.names, self._worker, streams, present, whole=True, seconds=_REPORT_HOLDS
            )
        self._streams, self._changed = streams, {}
        member.keys_evicted = commands.keys_evicted(client, member.names)


def _changes(before: dict[_K, int], now: dict[_K, int]) -> dict[_K, int]:
    """What has another count now; what is gone has 0."""
    changes = {key: count for key, count in now.items() if before.get(key) != count}
    changes |= {key: 0 for key in before if key not in now}
    return changes
