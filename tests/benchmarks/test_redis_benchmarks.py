"""What the benchmarks with Redis rest on: that events are published as said, and that a loss is no figure."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import pytest
import redis

from benchmarks.child import child
from benchmarks.client import load
from benchmarks.effort import Effort
from benchmarks.flood import Flood
from benchmarks.harness import BenchmarkError, RedisServer, cpu_ns, kit_server, redis_server
from benchmarks.redis_cost import ROWS, Sample, parts
from sse_core import publish

QUICK = Effort(rounds=1, seconds=0.05, quick=True)
#: As many as a stream of Redis certainly keeps.
EVENTS = 400


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server(QUICK) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, protocol=2) as connected:
        connected.flushdb()
        yield connected


def ids(client: redis.Redis, topic: str) -> list[tuple[int, int]]:
    entries: list[tuple[bytes, object]] = client.xrange(f"{{default}}:topic:{topic}")
    return [(int(milliseconds), int(sequence)) for milliseconds, sequence in (id.split(b"-") for id, _ in entries)]


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_flood_publishes_what_it_counts(server: RedisServer, client: redis.Redis, batch: int, mixed: bool) -> None:
    """Every event that a flood says it has published is in Redis, and the topics get equal shares."""
    with Flood(server, ("a", "b"), batch, mixed=mixed) as flood:
        count = flood.publish(events=EVENTS)
    first, second = ids(client, "a"), ids(client, "b")
    assert len(first) + len(second) == count >= EVENTS
    assert len(first) == len(second)


def test_events_of_a_mixed_flood_change_topics_every_time(server: RedisServer, client: redis.Redis) -> None:
    """In a mixed flood no two events that follow each other are of one topic; in any other they are, within a batch."""
    for mixed, changes in ((True, EVENTS - 1), (False, EVENTS // 10 - 1)):
        client.flushdb()
        with Flood(server, ("a", "b"), 10, mixed=mixed) as flood:
            assert flood.publish(events=EVENTS) == EVENTS
        order = [topic for _, topic in sorted((id, topic) for topic in "ab" for id in ids(client, topic))]
        assert sum(one != other for one, other in itertools.pairwise(order)) == changes


def test_a_flood_that_redis_refuses_has_no_count(server: RedisServer, client: redis.Redis) -> None:
    """An error reply ends the flood with what Redis said."""
    client.set("{default}:topic:a", "no stream")
    with Flood(server, ("a",), 10) as flood, pytest.raises(BenchmarkError, match="WRONGTYPE"):
        flood.publish(events=10)


def test_a_worker_that_got_another_number_of_events_has_no_figures(server: RedisServer, client: redis.Redis) -> None:
    """The process with the hub waits for each delivery, and ends when there were more than were published."""
    with child("feed", server.url, "2", "a", core=QUICK.core) as worker, Flood(server, ("a",), 10) as flood:
        count = flood.publish(events=EVENTS)
        assert worker.ask(2 * count)["reader_cpu"] > 0
        with pytest.raises(BenchmarkError, match="came more than once"):
            worker.ask(2 * count - 1)


@pytest.mark.parametrize("stage", ["redis-py", "subscriber", "decode", "feed", "append"])
def test_a_stage_reads_to_the_end_and_no_further(server: RedisServer, client: redis.Redis, stage: str) -> None:
    """A stage answers when it has read the last event; those that look into events refuse a wrong number of them."""
    with child("stages", server.url, stage, core=QUICK.core) as reader:
        for asked in (2, 1):
            for data in (b"one", b"two", b"end"):
                publish(client, stage, data)
            if asked == 2 or stage in ("redis-py", "subscriber"):
                assert reader.ask(asked)["cpu"] > 0
            else:
                with pytest.raises(BenchmarkError, match="2 events came, not 1"):
                    reader.ask(asked)


def test_the_client_publishes_batches() -> None:
    """In a phase of batches every event of a batch is a publish, and is delivered to every stream."""
    with kit_server(QUICK) as kit, load(kit, 3, QUICK) as client:
        batches = client.phase("batch", 1_000, 0.05)
        assert batches.publishes >= 1_000
        assert batches.publishes % 1_000 == 0
        assert batches.deliveries == 3 * batches.publishes
        assert batches.redis_cpu_ns == 0
        # The same connections go on with single events.
        assert client.phase("burst", 5, 0.05).publishes % 5 == 0


def test_the_cpu_time_of_redis_is_told_apart(server: RedisServer) -> None:
    """Where a server has Redis behind it, a phase says what that took beside what the server took."""
    with kit_server(QUICK, server) as kit, load(kit, 1, QUICK) as client:
        phase = client.phase("batch", 100, 0.05)
    assert 0 < phase.redis_us < phase.cpu_us + phase.redis_us
    assert server.pid not in kit.pids


def test_the_cpu_time_of_a_process_is_its_own() -> None:
    """`cpu_ns` is what the process itself would say, and a process that is gone has none."""
    before = time.process_time_ns()
    found = cpu_ns(os.getpid())
    assert before <= found <= time.process_time_ns()
    with redis_server(QUICK) as ended:
        pass
    with pytest.raises(BenchmarkError, match="is gone"):
        cpu_ns(ended.pid)


def test_the_parts_of_an_event_are_the_whole() -> None:
    """The script, without what it calls, is Lua; what is not the script is outside; medians are over the rounds."""
    sample = Sample(10.0, {"evalsha": 8.0, "xadd": 1.0, "xtrim": 0.5, "spublish": 0.25, "hset": 2.0, "set": 0.25})
    other = Sample(11.0, sample.commands)
    assert dict(zip(ROWS, parts([sample, other, other]), strict=True)) == {
        "the script": 8.0,
        "of which XADD": 1.0,
        "of which SPUBLISH": 0.25,
        "of which others: keys, clock, expiry": 2.75,
        "Lua, and its way to commands and back": 4.0,
        "outside of commands": 3.0,
    }
