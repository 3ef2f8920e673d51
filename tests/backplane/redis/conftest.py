"""One real server for all tests of this folder; each test has a namespace of its own in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from sse_core import Hub, RedisBackplane
from sse_core.backplane.redis.names import Names
from tests.backplane.redis.hubs import MakeHub
from tests.backplane.redis.listening import Listener
from tests.redisserver import RedisServer, redis_server

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = server.client()
    yield client
    client.flushall()


@pytest.fixture
def names() -> Names:
    return Names(f"n{next(_numbers)}")


@pytest.fixture
def listener(client: redis.Redis) -> Iterator[Listener]:
    listener = Listener(client)
    yield listener
    listener.close()


@pytest.fixture
def make(server: RedisServer, names: Names) -> Iterator[MakeHub]:
    """Makes hubs of one namespace, each as in a process of its own; all are closed at the end."""
    made: list[Hub] = []

    def make_hub(*, grace: float = 60.0, timeout: float = 5.0, url: str = server.unix_url, **options: object) -> Hub:
        backplane = RedisBackplane(url, namespace=names.namespace, grace=grace, timeout=timeout)
        made.append(Hub(backplane, **options))
        return made[-1]

    yield make_hub
    for hub in made:
        hub.close()
