"""Worker processes and masters that are killed, reloaded and restarted while everybody listens and publishes."""

from __future__ import annotations

from pathlib import Path

from tests.redisserver import redis_server

from .scenario import running


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    """The streams of a worker that gets SIGKILL resume at another one, with no hole and no duplicate."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1, 0):
            scenario.fleet.kill_worker(master)
            scenario.publishers.wait_for(60)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert sum(verdict.disconnects.values()) > 100


def test_a_reload_loses_nothing(tmp_path: Path) -> None:
    """HUP replaces all workers of a master; their streams are sent away one after the other, and resume."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1):
            scenario.fleet.reload(master)
            scenario.publishers.wait_for(40)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert sum(verdict.disconnects.values()) >= len(scenario.audience.streams)


def test_a_restart_of_one_master_after_the_other_loses_nothing(tmp_path: Path) -> None:
    """TERM and a new start at the same address: what the service forgets Redis has kept."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for master in (0, 1):
            scenario.fleet.restart(master, meanwhile=lambda: scenario.publishers.wait_for(40))
            scenario.publishers.wait_for(40)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert sum(verdict.disconnects.values()) >= len(scenario.audience.streams) / 2


def test_a_restart_of_all_masters_at_once_loses_nothing(tmp_path: Path) -> None:
    """With no process of the service left, an id from before still resumes exactly."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        scenario.fleet.restart(0, meanwhile=lambda: scenario.fleet.restart(1))
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert sum(verdict.disconnects.values()) >= len(scenario.audience.streams)
