"""`RedisBackplane`: the one object that a hub sees of all this."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import redis

from sse_core.backplane import Beginning, Receipt, Receiver
from sse_core.backplane.redis import audience, commands
from sse_core.backplane.redis.commands import Clock, History, Item, Wanted
from sse_core.backplane.redis.feed import Feed
from sse_core.backplane.redis.heart import Heart
from sse_core.backplane.redis.member import Member
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.reader import Reader
from sse_core.backplane.redis.topology import Topology, is_retryable, topology
from sse_core.errors import BackplaneError, ConfigurationError, HubClosedError
from sse_core.event import Event

_T = TypeVar("_T")

#: Seconds after which the same call may succeed.
_RETRY_AFTER = 1.0
#: Seconds between two attempts of one call.
_ATTEMPT_EVERY = 0.1


class _Connections:
    """What the namespaces of one process share: clients, and one reader for each server."""

    def __init__(self, url: str, timeout: float) -> None:
        self.topology: Topology = topology(url, timeout=timeout)
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._lock = threading.Lock()
        self._readers: dict[Hashable, Reader] = {}

    def reader(self, member: Member) -> Reader:
        """The reader of a member's server, which has it from then on."""
        shard = self.topology.shard(member.names.namespace)
        with self._lock:
            reader = self._readers.get(shard)
            if reader is None or not reader.join(member):
                reader = self._readers[shard] = Reader(self.topology, shard, member, self._rejoin)
            member.reader = reader
            return reader

    def _rejoin(self, member: Member) -> None:
        self.reader(member)


class _Family:
    """The backplanes of one URL in one process, and their connections. A child of fork begins without any."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self.reset()
        _families.add(self)

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._connections: _Connections | None = None

    def connections(self) -> _Connections:
        """The connections, made when first asked for."""
        with self._lock:
            if self._connections is None:
                self._connections = _Connections(self._url, self._timeout)
            return self._connections


_families: weakref.WeakSet[_Family] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for family in _families:
        family.reset()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Source:
    """Where a feed asks: commands to the primary of its namespace."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._topology = topology
        self._names = names

    def clock(self) -> Clock:
        return commands.beat(self._topology.client(self._names.namespace), self._names, interval_ms=0)

    def history(self, wanted: Sequence[Wanted], until: int) -> list[History]:
        if not wanted:
            return []
        return commands.history(self._topology.client(self._names.namespace), self._names, wanted, until)


class RedisBackplane:
    """Joins the hubs of all processes that name the same Redis and namespace. Thread-safe.

    ``url``: ``redis://``, ``rediss://``, ``unix://``; ``redis+sentinel://host:port,host:port/service/db``;
    ``redis+cluster://host:port,host:port``. Redis 7 or later, or Valkey.

    ``key_window`` (seconds) is how long an idempotency key is remembered, ``max_keys`` how many of a namespace at most
    (about 90 bytes each). ``grace`` is how long (seconds) a topic is kept up to date after its last stream has ended here.
    ``timeout`` bounds each call (seconds). With ``replicas`` a publish succeeds when so many replicas have it.

    Nothing connects before the first use in a process. Raises `ConfigurationError` for options that cannot be.
    """

    joins_processes = True

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        key_window: float = 120.0,
        max_keys: int = 200_000,
        grace: float = 60.0,
        timeout: float = 5.0,
        replicas: int = 0,
    ) -> None:
        if not timeout > 0:
            raise ConfigurationError("timeout: must be above 0")
        if key_window < 2 * timeout:
            # A call is repeated until `timeout`, and must not be taken for another one.
            raise ConfigurationError(f"key_window: must be at least twice the timeout ({timeout} s)")
        if grace < 1:
            # A topic must not be left between a stream's head and the moment at which the engine has the connection.
            raise ConfigurationError("grace: must be at least 1 s")
        if max_keys < 2 or replicas < 0:
            raise ConfigurationError("max_keys must be at least 2, replicas at least 0")
        self._names = Names(namespace)
        self._url = url
        self._key_window_ms = round(key_window * 1000)
        self._max_keys = max_keys
        self._grace = grace
        self._timeout = timeout
        self._replicas = replicas
        # Checks the URL; it does not connect.
        topology(url, timeout=timeout).close()
        self._family = _Family(url, timeout)
        self._member: Member | None = None
        self._duplicates = 0
        self._not_before = 0.0

    @property
    def namespace(self) -> str:
        """The name of the feed."""
        return self._names.namespace

    def sibling(self, namespace: str) -> RedisBackplane:
        """A backplane for another namespace, with the same options, that shares connections and threads with this one."""
        other = RedisBackplane(
            self._url,
            namespace=namespace,
            key_window=self._key_window_ms / 1000,
            max_keys=self._max_keys,
            grace=self._grace,
            timeout=self._timeout,
            replicas=self._replicas,
        )
        other._family = self._family
        return other

    # ---- life ----

    def start(self, receiver: Receiver) -> Beginning:
        """See `Backplane.start`."""
        connections = self._connect()
        source = _Source(connections.topology, self._names)
        member = Member(self._names, receiver, source, grace=self._grace)
        if time.monotonic() < self._not_before:
            raise BackplaneError(_RETRY_AFTER, "Redis is away")
        try:
            # Once, unlike other calls: all threads of a server may be waiting for it.
            beginning = member.feed.begin()
        except Exception as error:
            if not is_retryable(error):
                raise _refusal(error) from error
            self._not_before = time.monotonic() + _RETRY_AFTER
            raise BackplaneError(_RETRY_AFTER, f"Redis is away: {error}") from error
        self._member = member
        return beginning

    def listen(self) -> None:
        """See `Backplane.listen`."""
        connections, member = self._connect(), self._member
        # It may have been closed meanwhile.
        if member is not None:
            connections.reader(member)
            Heart(connections.topology, connections.worker, member)

    def _connect(self) -> _Connections:
        return self._family.connections()

    def close(self) -> None:
        """See `Backplane.close`."""
        member, self._member = self._member, None
        if member is not None:
            member.close()

    def _running(self) -> Member:
        if self._member is None:
            raise HubClosedError("the backplane was closed")
        return self._member

    # ---- streams ----

    def gave(self, number: int) -> bool:
        """See `Backplane.gave`: all processes have one feed."""
        return True

    def open(self, topics: Sequence[str]) -> None:
        """See `Backplane.open`."""
        self._running().open(topics, self._timeout)

    def reach(self, number: int) -> bool:
        """See `Backplane.reach`. A client can have heard from another process what is still under way to this one."""
        member = self._running()
        clock = self._ask(lambda: commands.clock(self._client(), self._names))
        if clock is None or clock.last < number:
            return False
        # So that the horizon comes there even if no event follows.
        self.reach_present()
        return member.feed.horizon >= number

    def reach_present(self) -> None:
        """See `Backplane.reach_present`. The clock is told on the channel that all events come by, and after them."""
        member = self._running()
        last = self._ask(lambda: commands.beat(self._client(), self._names, interval_ms=0)).last
        with member.moved:
            member.moved.wait_for(lambda: member.feed.horizon >= last or not member.connected, self._timeout)
        if member.feed.horizon < last:
            raise BackplaneError(_RETRY_AFTER, "this process is behind what was published")

    # ---- publish ----

    def publish(self, topic: str, event: Event, *, attempt: str | None = None) -> Receipt:
        """See `Backplane.publish`."""
        return self._publish([(topic, event)], attempt)[0]

    def publish_many(self, items: Sequence[tuple[str, Event]]) -> list[Receipt]:
        """See `Backplane.publish_many`."""
        return self._publish(items) if items else []

    def _publish(self, items: Sequence[tuple[str, Event]], attempt: str | None = None) -> list[Receipt]:
        receiver = self._running().receiver
        asked = []
        for topic, event in items:
            options = receiver.options(topic)
            asked.append(Item(topic, event, options.history_events, round(options.history_age * 1000)))
        # One key for all attempts: a call that Redis carried out, but whose answer was lost, gives the same receipts again.
        key = attempt or secrets.token_hex(8)
        receipts = self._ask(
            lambda: commands.publish(
                self._client(),
                self._names,
                asked,
                batch_key=key,
                key_window_ms=self._key_window_ms,
                max_keys=self._max_keys,
                replicas=self._replicas,
                replicas_timeout_ms=round(self._timeout * 500),
            )
        )
        self._duplicates += sum(receipt.duplicate for receipt in receipts)
        return receipts

    # ---- numbers and leases ----

    def is_available(self) -> bool:
        """See `Backplane.is_available`."""
        member = self._member
        return member is not None and member.connected and not member.ailing

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """See `Backplane.audience`. It is as old as the last reports, a few seconds."""
        return self._ask(lambda: audience.audience(self._client(), self._names, topics))

    def presence(self, topic: str) -> dict[str, int]:
        """See `Backplane.presence`. It is as old as the last reports, a few seconds."""
        return self._ask(lambda: audience.presence(self._client(), self._names, topic))

    def workers(self) -> list[str]:
        """See `Backplane.workers`: those that have reported within the last seconds."""
        return self._ask(lambda: audience.workers(self._client(), self._names))

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        """See `Backplane.hold`."""
        owner = self._connect().worker
        return self._ask(lambda: commands.hold_lease(self._client(), self._names, lease, owner, seconds, note))

    def release(self, lease: str) -> None:
        """See `Backplane.release`."""
        owner = self._connect().worker
        self._ask(lambda: commands.release_lease(self._client(), self._names, lease, owner))

    def is_held(self, lease: str) -> bool:
        """See `Backplane.is_held`."""
        return self._ask(lambda: commands.is_held(self._client(), self._names, lease))

    def sent(self, topics: Sequence[str]) -> dict[str, int]:
        """See `Backplane.sent`. Of other processes it is as old as their last reports, a second."""
        own, worker = self._running().receiver.sent(topics), self._connect().worker
        told = self._ask(lambda: commands.sent(self._client(), self._names, topics, but=worker))
        for topic in topics:
            if topic in own:
                told[topic] = min(own[topic], told.get(topic, own[topic]))
        return told

    def remember(self, name: str, text: str, seconds: float) -> None:
        """See `Backplane.remember`."""
        self._ask(lambda: commands.remember(self._client(), self._names, name, text, seconds))

    def recall(self, name: str) -> list[str]:
        """See `Backplane.recall`."""
        return self._ask(lambda: commands.recall(self._client(), self._names, name))

    def kept(self, topic: str) -> list[Event]:
        """See `Backplane.kept`."""
        options = self._running().receiver.options(topic)
        wanted = Wanted(topic, 0, options.history_events, options.history_bytes, round(options.history_age * 1000))
        source = _Source(self._connect().topology, self._names)
        (history,) = self._ask(lambda: source.history([wanted], source.clock().last))
        return [entry.event for entry in history.entries if entry.event is not None]

    def topic_of(self, number: int, topics: Sequence[str]) -> str | None:
        """See `Backplane.topic_of`."""
        return self._ask(lambda: commands.topic_of(self._client(), self._names, number, topics))

    def stats(self) -> dict[str, int]:
        """See `Backplane.stats`."""
        member = self._member
        counts = Feed.none() if member is None else member.feed.counts
        return {
            **counts,
            "duplicates": self._duplicates,
            "keys_evicted": 0 if member is None else member.keys_evicted,
            "backplane_up": int(self.is_available()),
            "backplane_topics": 0 if member is None else len(member.feed.topics),
            "backplane_reconnects": 0 if member is None else member.reconnects,
        }

    # ---- calls ----

    def _client(self) -> redis.Redis:
        return self._connect().topology.client(self._names.namespace)

    def _ask(self, call: Callable[[], _T]) -> _T:
        """Make a call that can be repeated, until `timeout`. Raises `BackplaneError`."""
        member = self._member
        if member is not None and member.ailing:
            # The heart tries each second. Without this every thread of a server would wait out the time limit.
            raise BackplaneError(_RETRY_AFTER, "Redis is away")
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return call()
            except Exception as error:
                if not is_retryable(error):
                    raise _refusal(error) from error
                failure = error
            if time.monotonic() + _ATTEMPT_EVERY > deadline:
                raise BackplaneError(
                    _RETRY_AFTER, f"Redis did not do it within {self._timeout} s: {failure}"
                ) from failure
            time.sleep(_ATTEMPT_EVERY)
            try:
                self._connect().topology.refresh()
            except Exception as error:
                if not is_retryable(error):
                    raise _refusal(error) from error
            if time.monotonic() > deadline or (member is not None and member.ailing):
                # Asking servers that do not answer takes its time, too.
                raise BackplaneError(_RETRY_AFTER, f"Redis is away: {failure}") from failure


def _refusal(error: Exception) -> Exception:
    """What a caller sees of an error that no second attempt mends: a wrong password is not the publisher's fault either."""
    return BackplaneError(_RETRY_AFTER, f"Redis refuses: {error}") if isinstance(error, redis.RedisError) else error
