"""The client for an application's own keys. How it follows a fail-over is in test_topology, beside the sentinels."""

from __future__ import annotations

import pytest
import redis

import sse_core
from sse_core import ConfigurationError, redis_client
from tests.ports import free_port
from tests.redisserver import TIMEOUT, RedisServer


def test_it_speaks_to_the_server_of_the_url(server: RedisServer) -> None:
    """Over TCP and over a unix socket, in the URL's database, under the kit's name."""
    for url in (f"redis://127.0.0.1:{server.port}/3", f"{server.unix_url}?db=3"):
        with redis_client(url, timeout=TIMEOUT) as client, server.client(db=3) as other:
            client.set("k", url)
            names = {each["name"] for each in server.client().client_list()}

            assert other.get("k") == url.encode()
            assert "sse-kit" in names
            other.flushdb()


def test_a_connection_that_broke_while_idle_is_replaced(server: RedisServer) -> None:
    """The first command after a connection was cut succeeds."""
    with redis_client(server.url, timeout=TIMEOUT) as client:
        client.ping()
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        assert client.ping()


def test_a_server_that_hangs_costs_the_timeout(server: RedisServer) -> None:
    """Nobody waits for ever."""
    with redis_client(server.url, timeout=0.1) as client:
        client.ping()
        server.pause()
        try:
            with pytest.raises(redis.TimeoutError):
                client.ping()
        finally:
            server.resume()


def test_nothing_connects_before_it_is_used() -> None:
    """An application may be made before its Redis is there."""
    with redis_client(f"redis://127.0.0.1:{free_port()}") as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.mark.parametrize(
    ("url", "reason"),
    [("redis+cluster://:secret@a,b", "Cluster"), ("http://:secret@a", "no URL"), ("redis://:secret@a/x", "database")],
)
def test_what_is_no_one_server_is_refused(url: str, reason: str) -> None:
    """A Cluster, and what is no URL, without its password."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        redis_client(url)

    assert "secret" not in str(caught.value)


def test_it_is_public() -> None:
    """It is a name of the package, like all that the service may use."""
    assert "redis_client" in sse_core.__all__
