"""Worker processes and masters that are killed, reloaded and restarted while everybody listens and publishes."""

from __future__ import annotations

from pathlib import Path

from tests.redisserver import redis_server

from .audience import Audience
from .fleet import Fleet
from .scenario import STREAMS, plans, running


def test_workers_that_have_just_started_take_all_streams_at_once(tmp_path: Path) -> None:
    """A storm of reconnects meets a fresh process when a worker was replaced: nobody is sent away while it connects."""
    with (
        redis_server(tmp_path) as redis,
        Fleet(redis.url) as fleet,
        Audience(fleet.addresses, plans(STREAMS)) as audience,
    ):
        audience.wait_until_open()

        assert not audience.reasons()


def test_clients_that_come_and_go_under_load_miss_nothing(tmp_path: Path) -> None:
    """Where history ends and what is live begins there is no hole and no duplicate, however often a client resumes."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for part in range(15):
            scenario.publishers.burst(10)
            for stream in scenario.audience.streams[part % 3 :: 3]:
                stream.cut()
            scenario.publishers.wait_for(15)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() > 2 * len(scenario.audience.streams)


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    """The streams of a worker that gets SIGKILL resume at another one, with no hole and no duplicate."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1, 0):
            scenario.fleet.kill_worker(master)
            scenario.publishers.wait_for(60)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() > 100


def test_a_reload_loses_nothing(tmp_path: Path) -> None:
    """HUP replaces all workers of a master; their streams are sent away one after the other, and resume."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1):
            scenario.fleet.reload(master)
            scenario.publishers.wait_for(40)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() >= len(scenario.audience.streams)


def test_a_restart_of_one_master_after_the_other_loses_nothing(tmp_path: Path) -> None:
    """TERM and a new start at the same address: what the service forgets Redis has kept."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1):
            scenario.fleet.restart(master, meanwhile=lambda: scenario.publishers.wait_for(40))
            scenario.publishers.wait_for(40)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() >= len(scenario.audience.streams) / 2


def test_a_restart_of_all_masters_at_once_loses_nothing(tmp_path: Path) -> None:
    """With no process of the service left, an id from before still resumes exactly."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        scenario.fleet.restart(0, meanwhile=lambda: scenario.fleet.restart(1))
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() >= len(scenario.audience.streams)
