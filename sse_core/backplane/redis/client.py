"""A client for what else an application keeps in the Redis that a backplane's URL names."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from sse_core.backplane.redis.subscriber import CLIENT_NAME
from sse_core.backplane.redis.url import parse
from sse_core.errors import ConfigurationError


def redis_client(url: str, *, timeout: float = 5.0) -> redis.Redis:
    """Return redis-py's client of one server, or of the primary that sentinels name. Thread-safe, as redis-py's are.

    ``url`` is what `RedisBackplane` takes; sentinels are asked for each new connection, so the client survives a fail-over.
    ``timeout`` bounds connecting and each answer, in seconds. Nothing connects before the first command. Close it when done.

    Raises `ConfigurationError`, also for a Cluster: there a key's server is the affair of redis-py's own client.
    """
    place = parse(url)
    if place.kind == "cluster":
        raise ConfigurationError("a Cluster is many servers: name one server, or sentinels")
    options: dict[str, Any] = {
        **place.options,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "client_name": CLIENT_NAME,
        "protocol": 2,
        # Once, at once: for a connection that broke while it was idle.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    if place.kind == "sentinel":
        sentinel_options = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **place.sentinel_options,
        }
        tls = {"ssl": True} if place.sentinel_options.get("ssl") else {}
        sentinels = Sentinel(place.hosts, sentinel_kwargs=sentinel_options)
        primary: redis.Redis = sentinels.master_for(place.service, **options, **tls)
        return primary
    if place.hosts:
        options["host"], options["port"] = place.hosts[0]
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=place.connection_class, **options))
