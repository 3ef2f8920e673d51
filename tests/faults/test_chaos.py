"""All that can be survived without a loss, by chance and on top of each other, for longer than a test run has time for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.redisserver import RedisServer, redis_server

from .scenario import Scenario, running

SECONDS = 60.0
# No bound of the history is to be reached.
ROOM = {"*": {"history_events": 100_000, "history_bytes": 1 << 26}}


def stand_still(redis: RedisServer, seconds: float) -> None:
    """Stop Redis in its tracks, and let it go on."""
    redis.pause()
    time.sleep(seconds)
    redis.resume()


def restart(redis: RedisServer, seconds: float) -> None:
    """Kill Redis and start it again."""
    redis.kill()
    time.sleep(seconds)
    redis.start()


def cut(scenario: Scenario, share: int) -> None:
    """Break every so-manieth stream from the client's side."""
    for stream in scenario.audience.streams[::share]:
        stream.cut()


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_of_faults_loses_nothing(tmp_path: Path, seed: int) -> None:
    """Faults may come while the servers still recover from the one before."""
    chance = random.Random(seed)
    with redis_server(tmp_path, aof=True) as redis, running(redis.url, topics=ROOM) as scenario:
        fleet = scenario.fleet
        faults: list[Callable[[], object]] = [
            lambda: fleet.kill_worker(chance.randrange(2)),
            lambda: fleet.reload(chance.randrange(2)),
            lambda: fleet.restart(chance.randrange(2)),
            lambda: restart(redis, chance.uniform(0.0, 3.0)),
            lambda: stand_still(redis, chance.uniform(0.1, 8.0)),
            lambda: redis.client().client_kill_filter(_type="pubsub"),
            lambda: redis.client().client_kill_filter(_type="normal"),
            lambda: redis.client().script_flush(),
            lambda: cut(scenario, chance.randrange(1, 9)),
            lambda: scenario.publishers.burst(chance.randrange(2, 80)),
        ]
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            chance.choice(faults)()
            time.sleep(chance.choice([0.0, 0.05, 0.5, 2.0]))
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check()
