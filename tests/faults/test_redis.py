"""Redis that is killed, stopped, emptied, and that throws its subscribers out, while everybody listens and publishes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from sse_core.testing import StreamReader
from tests.redisserver import RedisServer, redis_server, wait_until
from tests.servers import Server

from .proxy import Proxy
from .scenario import TOPICS, running

WORKERS = 4  # two masters with two each


def subscribers(redis: RedisServer) -> set[str]:
    """The connections that are subscribed now, by their ids."""
    return {client["id"] for client in redis.client().client_list(_type="pubsub")}


def wait_for_subscribers(redis: RedisServer) -> set[str]:
    """Wait until every worker is subscribed."""
    wait_until(lambda: len(subscribers(redis)) >= WORKERS, "every worker is subscribed")
    return subscribers(redis)


def have_all_gone(redis: RedisServer, before: set[str]) -> bool:
    """Whether none of these connections is subscribed any more."""
    return not before & subscribers(redis)


def wait_for_readiness(servers: Iterable[Server], status: int) -> None:
    """Wait until every server answers so when it is asked whether it should get new streams."""
    for server in servers:
        wait_until(partial(is_answered, server, "/readyz", status), f"readiness is {status}")


def is_answered(server: Server, path: str, status: int) -> bool:
    """Whether a server answers with this status."""
    return server.request("GET", path).status == status


def test_redis_that_is_killed_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    """After SIGKILL and a restart with the append-only file streams go on without a break: none of them is even closed."""
    with redis_server(tmp_path, aof=True) as redis, running(redis.url) as scenario:
        for _ in range(2):
            redis.kill()
            scenario.publishers.wait_for_answer("503")
            redis.start()
            scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check_outage()


def test_redis_that_stands_still_for_twenty_seconds_loses_nothing(tmp_path: Path) -> None:
    """Streams stay open, publishers are told to come back, readiness says no and liveness yes; then all goes on."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        servers = scenario.fleet.servers
        resume_at = time.monotonic() + 20.0
        redis.pause()
        try:
            wait_for_readiness(servers, 503)
            scenario.publishers.wait_for_answer("503")
            time.sleep(max(resume_at - time.monotonic(), 0.0))
            assert all(is_answered(server, "/healthz", 200) for server in servers)
            assert all(is_answered(server, "/readyz", 503) for server in servers)
        finally:
            redis.resume()
        wait_for_readiness(servers, 200)
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert scenario.publishers.retry_after
        assert None not in scenario.publishers.retry_after
        assert verdict.disconnects.total() == 0


def test_subscribers_that_are_killed_again_and_again_lose_nothing(tmp_path: Path) -> None:
    """What is published while a worker's subscription is down is fetched, before anything that came later."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        for _ in range(10):
            wait_for_subscribers(redis)
            redis.client().client_kill_filter(_type="pubsub")
            scenario.publishers.wait_for(15)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() == 0


def listeners(redis: RedisServer) -> set[str]:
    """The subscribers that listen to topics: a worker without streams, as one of two may be, hears only the beat."""
    return {client["id"] for client in redis.client().client_list(_type="pubsub") if int(client["ssub"]) > 1}


def test_subscribers_whose_output_buffer_overflows_lose_nothing(tmp_path: Path) -> None:
    """Redis throws out who cannot take a burst in time; what was in the buffer then is fetched."""
    with redis_server(tmp_path) as redis, running(redis.url, size=2000) as scenario:
        redis.client().config_set("client-output-buffer-limit", "pubsub 65536 65536 0")
        for _ in range(4):
            wait_for_subscribers(redis)
            wait_until(partial(listeners, redis), "somebody listens to topics")
            before = listeners(redis)
            scenario.publishers.burst(80)
            wait_until(partial(have_all_gone, redis, before), "all subscribers were thrown out")
            scenario.publishers.wait_for(20)
        verdict = scenario.finish(redis.client())

        verdict.check()


def test_a_connection_that_swallows_everything_loses_nothing(tmp_path: Path) -> None:
    """One that never breaks and brings nothing any more is found out by its silence; other servers are not affected."""
    with (
        redis_server(tmp_path) as redis,
        Proxy(redis.port) as proxy,
        running([redis.url, f"redis://127.0.0.1:{proxy.port}/0"]) as scenario,
    ):
        before = wait_for_subscribers(redis)
        proxy.swallow()
        scenario.publishers.wait_for(80)
        wait_until(lambda: len(subscribers(redis) - before) >= WORKERS / 2, "half of the workers are subscribed anew")
        scenario.publishers.wait_for(40)
        verdict = scenario.finish(redis.client())

        verdict.check()
        assert verdict.disconnects.total() == 0


@pytest.mark.parametrize("how", ["restarted", "flushed"])
def test_redis_that_comes_back_empty_is_told_to_every_stream(tmp_path: Path, how: str) -> None:
    """A gap in band, once, for each topic of each open stream; what is published from then on arrives without loss."""
    with redis_server(tmp_path) as redis, running(redis.url) as scenario:
        sound = time.monotonic()
        scenario.publishers.wait_for(80)
        if how == "restarted":
            redis.kill()
            scenario.publishers.wait_for_answer("503")
            redis.start()
        else:
            redis.client().flushall()
        scenario.publishers.wait_for(160)
        verdict = scenario.finish(redis.client(), gaps=True, sound_until=sound)

        verdict.check()
        assert verdict.disconnects.total() == 0


def test_while_redis_is_away_history_is_served_and_publishing_says_when_to_come_back(tmp_path: Path) -> None:
    """A new stream on a topic that somebody listens to gets what the process holds; a publish answers 503."""
    with (
        redis_server(tmp_path, aof=True) as redis,
        running(redis.url, masters=1, workers=1, streams=24) as scenario,
    ):
        scenario.publishers.stop()
        posts = [post for post in scenario.publishers.posts() if post.topic == TOPICS[0]]
        assert len(posts) > 1
        (server,) = scenario.fleet.servers
        redis.kill()
        wait_for_readiness([server], 503)

        with StreamReader(server.socket_path, f"/events?topic={TOPICS[0]}", last_event_id=posts[0].id) as stream:
            assert [event.id for event in stream.read(len(posts) - 1)] == [post.id for post in posts[1:]]
            answer = server.request(
                "POST",
                "/publish",
                b'{"topic":"topic-0","data":"late","id":"late"}',
                {"Content-Type": "application/json"},
            )
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1

            redis.start()
            wait_for_readiness([server], 200)
            late = server.publish(TOPICS[0], "late", id="late")
            assert [event.id for event in stream.read(1)] == [late]
