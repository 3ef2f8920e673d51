"""All that can be survived without a loss, by chance and on top of each other, for longer than a test run has time for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.redisserver import RedisServer, redis_server

from .scenario import Scenario, running

SECONDS = 60.0
# No bound of the history is to be reached.
ROOM = {"*": {"history_events": 100_000, "history_bytes": 1 << 26}}


def faults_of_redis(redis: RedisServer, chance: random.Random) -> list[Callable[[], object]]:
    """What may happen to Redis."""

    def stand_still() -> None:
        redis.pause()
        time.sleep(chance.uniform(0.1, 8.0))
        redis.resume()

    def restart() -> None:
        redis.kill()
        time.sleep(chance.uniform(0.0, 3.0))
        redis.start()

    return [
        stand_still,
        restart,
        lambda: redis.client().client_kill_filter(_type="pubsub"),
        lambda: redis.client().client_kill_filter(_type="normal"),
        lambda: redis.client().script_flush(),
    ]


def faults_of_the_rest(scenario: Scenario, chance: random.Random) -> list[Callable[[], object]]:
    """What may happen to servers and clients."""

    def cut() -> None:
        for stream in scenario.audience.streams[:: chance.randrange(1, 9)]:
            stream.cut()

    return [
        cut,
        lambda: scenario.fleet.kill_worker(chance.randrange(2)),
        lambda: scenario.fleet.reload(chance.randrange(2)),
        lambda: scenario.fleet.restart(chance.randrange(2)),
        lambda: scenario.publishers.burst(chance.randrange(2, 80)),
    ]


def happen(faults: Sequence[Callable[[], object]], chance: random.Random, until: float) -> None:
    """Let one after the other happen, until that time (monotonic seconds)."""
    while time.monotonic() < until:
        chance.choice(faults)()
        time.sleep(chance.choice([0.0, 0.05, 0.5, 2.0]))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_faults_at_the_same_time_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Redis dies while servers still recover, and servers start while Redis is away."""
    with redis_server(tmp_path, aof=True) as redis, running(redis.url, topics=ROOM) as scenario:
        until = time.monotonic() + SECONDS
        with ThreadPoolExecutor(2) as pool:
            threads = [
                pool.submit(happen, faults_of_redis(redis, chance := random.Random(seed)), chance, until),
                pool.submit(happen, faults_of_the_rest(scenario, chance := random.Random(100 + seed)), chance, until),
            ]
            for thread in threads:
                thread.result()
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check()
