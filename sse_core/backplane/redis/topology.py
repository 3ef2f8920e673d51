"""Which server is the primary of a namespace, and connections to it: one server, Sentinel, or Cluster."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Hashable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from sse_core.backplane.redis.subscriber import CLIENT_NAME, Subscriber
from sse_core.backplane.redis.url import Place, parse

Address = tuple[str, int]
#: Whom a unix socket leads to.
_NO_ADDRESS: Address = ("", 0)
#: Seconds for one server to say who is primary: there are others to ask.
_ASKING = 1.0

_RETRYABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    AskError,  # and MovedError
    ReadOnlyError,
    ClusterDownError,  # and MasterDownError
    TryAgainError,
    OutOfMemoryError,
)
#: Codes of errors that redis-py has no class for: too few replicas, a disk that is full, a script that takes long, and the
#: end of a blocking command when a primary is demoted.
_RETRYABLE_CODES = ("NOREPLICAS", "MISCONF", "BUSY", "UNBLOCKED")
#: What a script that touches keys is told while their slot is being moved. Nothing was written then.
_MOVING = "attempted to access a non local key"


def is_retryable(error: BaseException) -> bool:
    """Whether an error of redis-py means that Redis is away, has moved or cannot write now: `refresh` and try again.

    A wrong password or a missing permission is not: that does not go away by itself.
    """
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    if isinstance(error, _RETRYABLE):
        return True
    return isinstance(error, ResponseError) and (
        str(error).partition(" ")[0] in _RETRYABLE_CODES or _MOVING in str(error)
    )


def topology(url: str, *, timeout: float) -> Topology:
    """Return the topology that a URL names; ``timeout`` (seconds) bounds each call. Raise `ConfigurationError`."""
    place = parse(url)
    kinds = {"standalone": Topology, "sentinel": _SentinelTopology, "cluster": _ClusterTopology}
    return kinds[place.kind](place, timeout)


class Topology:
    """One server. Thread-safe; nothing connects before the first call that has to.

    All methods but `close` may raise redis-py's errors; see `is_retryable`.
    """

    def __init__(self, place: Place, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._lock = threading.RLock()
        self._clients: dict[Address, redis.Redis] = {}
        # Apart from the other one: whoever has a client at hand must not wait for servers that do not answer.
        self._refreshing = threading.Lock()
        self._began_at = 0.0

    def client(self, namespace: str) -> redis.Redis:
        """A client for commands to the primary of a namespace. Its connections are pooled, and shared by all threads."""
        address = self._address(namespace)
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                client = self._clients[address] = self._make_client(address)
            return client

    def connect(self, namespace: str) -> Subscriber:
        """A new pub/sub connection to the primary of a namespace, which is the caller's to close."""
        options = self._options(self._address(namespace))
        options.pop("max_connections", None)
        return Subscriber(self._place.connection_class, options, timeout=self._timeout)

    def shard(self, namespace: str) -> Hashable:
        """Which server that is: equal for namespaces that can share a connection."""
        return self._address(namespace)

    def refresh(self) -> None:
        """Learn anew who is primary. Threads that ask at the same time share one answer."""
        asked_at = time.monotonic()
        with self._refreshing:
            # Whoever came after this call was made has asked for it, too.
            if self._began_at < asked_at:
                self._began_at = time.monotonic()
                self._learn()

    def _learn(self) -> None:
        """Ask who is primary; one thread at a time."""

    def close(self) -> None:
        """Close all pooled connections."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _address(self, namespace: str) -> Address:
        return self._place.hosts[0] if self._place.hosts else _NO_ADDRESS

    def _options(self, address: Address) -> dict[str, Any]:
        options = dict(self._place.options)
        if address != _NO_ADDRESS:
            options |= {"host": address[0], "port": address[1]}
        return options

    def _make_client(self, address: Address, timeout: float | None = None) -> redis.Redis:
        # The URL may bound them, but more threads than connections is no error by itself.
        options = {"max_connections": 1 << 16} | self._options(address)
        timeout = timeout or self._timeout
        pool = redis.ConnectionPool(
            connection_class=self._place.connection_class,
            **options
            | {
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                "client_name": CLIENT_NAME,
                "protocol": 2,
                # Once, at once: for a connection that broke while it was idle. Who calls knows how long to go on.
                "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            },
        )
        return redis.Redis.from_pool(pool)

    def _keep_only(self, addresses: set[Address]) -> None:
        """Close the clients of servers that are primaries no more."""
        with self._lock:
            left = [self._clients.pop(address) for address in [*self._clients] if address not in addresses]
        for client in left:
            client.close()


class _SentinelTopology(Topology):
    """A primary that sentinels know."""

    def __init__(self, place: Place, timeout: float) -> None:
        super().__init__(place, timeout)
        asking = min(timeout, _ASKING)
        self._sentinel = Sentinel(
            place.hosts,
            sentinel_kwargs={
                "socket_timeout": asking,
                "socket_connect_timeout": asking,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                **place.sentinel_options,
            },
        )
        self._primary: Address | None = None

    def _address(self, namespace: str) -> Address:
        if self._primary is None:
            self.refresh()
        primary = self._primary
        if primary is None:
            raise RedisConnectionError("no sentinel has told the primary yet")
        return primary

    def _learn(self) -> None:
        host, port = self._sentinel.discover_master(self._place.service)
        self._primary = primary = str(host), int(port)
        self._keep_only({primary})

    def close(self) -> None:
        super().close()
        self._sentinel.close()


class _ClusterTopology(Topology):
    """A Cluster: the primary of a namespace's slot. redis-py's own client would follow moves of its own accord; but a
    subscription has to follow at the same moment, so here it is asked for."""

    def __init__(self, place: Place, timeout: float) -> None:
        super().__init__(place, timeout)
        # The primaries by the first of their slots: (first, last, address).
        self._slots: list[tuple[int, int, Address]] = []

    def _address(self, namespace: str) -> Address:
        slot = key_slot(namespace.encode(), REDIS_CLUSTER_HASH_SLOTS)
        if not self._slots:
            self.refresh()
        for first, last, address in self._slots:
            if first <= slot <= last:
                return address
        raise ClusterDownError(f"slot {slot} is served by no node")

    def _learn(self) -> None:
        # At random: one that hangs, or is cut off and believes what is no longer so, is not asked first every time.
        known = list({address for _, _, address in self._slots})
        random.shuffle(known)
        failure: Exception | None = None
        for address in dict.fromkeys([*known, *self._place.hosts]):
            client = self._make_client(address, min(self._timeout, _ASKING))
            try:
                slots = _parse_slots(client.execute_command("CLUSTER SLOTS"), address)
            except (redis.RedisError, OSError) as error:
                failure = error
                continue
            finally:
                client.close()
            if slots:
                self._slots = slots
                self._keep_only({each for _, _, each in slots})
                return
            failure = ClusterDownError("no slot is served")
        assert failure is not None
        raise failure


def _parse_slots(reply: Any, asked: Address) -> list[tuple[int, int, Address]]:
    found = []
    for first, last, primary, *_ in reply:
        # A node that does not know its own name leaves it out: it is the one that was asked.
        host = primary[0].decode() if primary[0] else asked[0]
        found.append((int(first), int(last), (asked[0] if host == "?" else host, int(primary[1]))))
    return found
