"""Commands that are no history and no event: replicas, leases, and who listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sse_core.backplane.redis import commands
from sse_core.backplane.redis.commands import Item, Wanted
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import LEASE
from sse_core.backplane.redis.topology import is_retryable
from sse_core.errors import BackplaneError, ConfigurationError
from sse_core.event import Event
from tests.redisserver import RedisServer, redis_server, wait_until

ITEM = Item("a", Event("x"), 100, 60_000)


def publish(client: redis.Redis, names: Names, *, replicas: int, timeout_ms: int, key: str = "") -> bool:
    """Publish one event and wait for replicas; return whether it was a duplicate."""
    (receipt,) = commands.publish(
        client,
        names,
        [Item("a", Event("x", id=key or None), 100, 60_000)],
        batch_key="",
        key_window_ms=60_000,
        max_keys=100,
        replicas=replicas,
        replicas_timeout_ms=timeout_ms,
    )
    return receipt.duplicate


class TestReplicas:
    """A publish that waits until it cannot be lost with the primary."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
        with redis_server(tmp_path, options=("--repl-diskless-sync-delay", 0)) as primary:
            follow = ("--replicaof", "127.0.0.1", primary.port)
            with redis_server(tmp_path, options=follow) as replica:
                client = replica.client()
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica is linked")
                yield primary, replica

    def test_a_replica_has_what_was_published(self, pair: tuple[RedisServer, RedisServer], names: Names) -> None:
        """When the call returns the replica has the event and the clock, also where the script was not known yet."""
        primary, replica = pair
        published = publish(primary.client(), names, replicas=1, timeout_ms=10_000)

        assert not published
        assert replica.client().xlen(names.topic("a")) == 1
        assert commands.clock(replica.client(), names) == commands.clock(primary.client(), names)

    def test_too_few_replicas_are_told(self, pair: tuple[RedisServer, RedisServer], names: Names) -> None:
        """The caller learns that its event may be lost with the primary, and may repeat the call with its key."""
        primary, replica = pair
        client = primary.client()
        replica.pause()
        with pytest.raises(BackplaneError, match="0 of 1 replicas"):
            publish(client, names, replicas=1, timeout_ms=50, key="k")
        # It is a duplicate by now, and still not safe: the call has to say so again.
        with pytest.raises(BackplaneError, match="0 of 1 replicas"):
            publish(primary.client(client_name="another"), names, replicas=1, timeout_ms=50, key="k")
        replica.resume()

        assert publish(client, names, replicas=1, timeout_ms=10_000, key="k")
        assert replica.client().xlen(names.topic("a")) == 1

    def test_a_replica_gives_no_history(self, pair: tuple[RedisServer, RedisServer], names: Names) -> None:
        """It may be behind, and a primary that was demoted is one: only who can write vouches for what is complete."""
        primary, replica = pair
        publish(primary.client(), names, replicas=1, timeout_ms=10_000)
        with pytest.raises(redis.ReadOnlyError) as caught:
            commands.history(replica.client(), names, [Wanted("a", 0, 10, 1000, 0)], 2**64 - 1)

        assert is_retryable(caught.value)

    def test_errors_come_before_waiting(self, pair: tuple[RedisServer, RedisServer], names: Names) -> None:
        """What the script refuses, or Redis, is told as without replicas."""
        client = pair[0].client()
        client.set(names.topic("a"), "mine")

        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            publish(client, names, replicas=1, timeout_ms=10_000)


class TestLease:
    """At most one owner, and a note from one to the next."""

    def test_one_owner_at_a_time(self, client: redis.Redis, names: Names) -> None:
        """While it holds nobody else gets it; given back, or expired, another does."""
        assert commands.hold_lease(client, names, "l", "me", 60, None) == (True, None)
        assert commands.hold_lease(client, names, "l", "you", 60, None) == (False, None)
        assert commands.hold_lease(client, names, "l", "me", 60, None) == (True, None)

        commands.release_lease(client, names, "l", "me")

        assert commands.hold_lease(client, names, "l", "you", 0.001, None) == (True, None)

        wait_until(lambda: commands.hold_lease(client, names, "l", "me", 60, None)[0], "the lease has expired")

        assert commands.hold_lease(client, names, "l", "you", 60, None) == (False, None)

    def test_a_note_is_kept_for_the_next_owner(self, client: redis.Redis, names: Names) -> None:
        """Who takes over reads where the last owner was; whoever asks reads it."""
        assert commands.hold_lease(client, names, "l", "me", 60, "7") == (True, "7")
        assert commands.hold_lease(client, names, "l", "me", 60, "8 ü") == (True, "8 ü")
        assert commands.hold_lease(client, names, "l", "you", 60, "9") == (False, "8 ü")

        commands.release_lease(client, names, "l", "me")

        assert commands.hold_lease(client, names, "l", "you", 60, None) == (True, "8 ü")

    def test_an_owner_that_came_late_does_not_write_over_the_note(self, client: redis.Redis, names: Names) -> None:
        """One that lost the lease and takes it again gets the note of who had it meanwhile, not its own old one."""
        commands.hold_lease(client, names, "l", "me", 60, "7")
        commands.release_lease(client, names, "l", "me")
        commands.hold_lease(client, names, "l", "you", 60, None)
        commands.hold_lease(client, names, "l", "you", 60, "20")
        commands.release_lease(client, names, "l", "you")

        assert commands.hold_lease(client, names, "l", "me", 60, "8") == (True, "20")
        assert commands.hold_lease(client, names, "l", "me", 60, "21") == (True, "21")
        assert commands.hold_lease(client, names, "l", "me", 60, "") == (True, "")

    def test_without_a_note_nothing_stays(self, client: redis.Redis, names: Names) -> None:
        """A lease that was given back, or has expired, leaves a key only for its note."""
        for lease, note in (("l", None), ("noted", "7")):
            commands.hold_lease(client, names, lease, "me", 60, note)
            assert client.pttl(names.lease(lease)) > 59_000
            commands.release_lease(client, names, lease, "me")
        commands.hold_lease(client, names, "short", "me", 0.001, None)
        wait_until(lambda: not client.exists(names.lease("short")), "the lease has expired")

        assert client.exists(names.lease("l")) == 0
        assert client.pttl(names.lease("noted")) > 60_000

    def test_only_the_owner_gives_it_back(self, client: redis.Redis, names: Names) -> None:
        """Whoever is late with it changes nothing."""
        commands.hold_lease(client, names, "l", "me", 60, None)
        commands.release_lease(client, names, "l", "you")
        commands.release_lease(client, names, "other", "you")

        assert not commands.hold_lease(client, names, "l", "you", 60, None)[0]
        assert client.exists(names.lease("other")) == 0

    def test_of_many_that_want_it_one_gets_it(self, client: redis.Redis, names: Names) -> None:
        """However many ask at once."""
        held: list[bool] = []
        threads = [
            threading.Thread(target=lambda i=i: held.append(commands.hold_lease(client, names, "l", f"w{i}", 60)[0]))
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(held) == [False] * 15 + [True]

    def test_arguments_that_do_not_add_up_are_refused(self, client: redis.Redis, names: Names) -> None:
        """A lease without an owner would belong to anybody."""
        with pytest.raises(ConfigurationError):
            LEASE.run(client, names.lease("l"), ["", 5, 0, ""])


class TestAudience:
    """Who listens, over all workers."""

    def test_streams_are_summed_over_workers(self, client: redis.Redis, names: Names) -> None:
        """Each worker tells its own."""
        commands.report(client, names, "w1", {"a": 2, "ü {x}": 1}, {}, whole=True, seconds=60)
        commands.report(client, names, "w2", {"a": 3}, {}, whole=True, seconds=60)

        assert commands.audience(client, names) == {"a": 5, "ü {x}": 1}
        assert commands.audience(client, names, ["a", "none"]) == {"a": 5, "none": 0}
        assert commands.audience(client, names, []) == {}
        assert commands.workers(client, names) == ["w1", "w2"]

    def test_changes_are_enough(self, client: redis.Redis, names: Names) -> None:
        """After the whole a worker tells what is different, and 0 takes a topic away."""
        commands.report(client, names, "w", {"a": 2, "b": 1}, {("a", "me"): 2}, whole=True, seconds=60)
        told = commands.report(client, names, "w", {"b": 0, "c": 4}, {("a", "me"): 0}, whole=False, seconds=60)

        assert told
        assert commands.audience(client, names) == {"a": 2, "c": 4}
        assert client.exists(names.present("w")) == 0

    def test_the_whole_replaces_all(self, client: redis.Redis, names: Names) -> None:
        """What was told before and is not told again is gone."""
        commands.report(client, names, "w", {"a": 2}, {("a", "me"): 2}, whole=True, seconds=60)
        commands.report(client, names, "w", {"b": 1}, {}, whole=True, seconds=60)

        assert commands.audience(client, names) == {"b": 1}
        assert commands.presence(client, names, "a") == {}

    def test_a_worker_that_does_not_report_is_gone(self, client: redis.Redis, names: Names) -> None:
        """What it told expires with it, and the change it tells too late is not taken for all there is."""
        commands.report(client, names, "dead", {"a": 5}, {("a", "me"): 5}, whole=True, seconds=0.001)
        commands.report(client, names, "alive", {"a": 1}, {}, whole=True, seconds=60)
        wait_until(lambda: commands.workers(client, names) == ["alive"], "the worker has expired")

        assert commands.audience(client, names) == {"a": 1}
        assert commands.presence(client, names, "a") == {}
        assert not commands.report(client, names, "dead", {"b": 1}, {}, whole=False, seconds=60)
        assert commands.audience(client, names) == {"a": 1}
        assert commands.report(client, names, "dead", {"a": 4}, {}, whole=True, seconds=60)
        assert commands.audience(client, names) == {"a": 5}

    def test_a_worker_takes_leave(self, client: redis.Redis, names: Names) -> None:
        """One that stops does not have to be waited for."""
        commands.report(client, names, "w", {"a": 5}, {("a", "me"): 5}, whole=True, seconds=60)
        commands.leave(client, names, "w")

        assert commands.workers(client, names) == []
        assert client.keys(f"{{{names.namespace}}}*") == []

    def test_a_short_report_does_not_take_others_away(self, client: redis.Redis, names: Names) -> None:
        """The list of workers lives as long as the longest of them."""
        commands.report(client, names, "long", {"a": 1}, {}, whole=True, seconds=60)
        commands.report(client, names, "short", {"a": 1}, {}, whole=True, seconds=1)

        assert client.pttl(names.workers) > 50_000

    def test_thousands_of_topics_are_reported(self, client: redis.Redis, names: Names) -> None:
        """A worker with many topics tells them in pieces, at one moment."""
        streams = {f"t{i}": i for i in range(1, 3001)}
        commands.report(client, names, "w", streams, {}, whole=True, seconds=60)

        assert commands.audience(client, names) == streams

        commands.report(client, names, "w", dict.fromkeys(streams, 0), {}, whole=False, seconds=60)

        assert commands.audience(client, names) == {}

    def test_presence_is_by_subject(self, client: redis.Redis, names: Names) -> None:
        """Who is on a topic, whatever the names look like, and not who is on another one."""
        topics = ["a", 'a"', "a*", "[a]", "a\\", "ü, x"]
        for worker in ("w1", "w2"):
            present = {(topic, subject): 1 + i for i, topic in enumerate(topics) for subject in ("me", '"you", ü')}
            commands.report(client, names, worker, {}, present, whole=True, seconds=60)

        for i, topic in enumerate(topics):
            assert commands.presence(client, names, topic) == {"me": 2 + 2 * i, '"you", ü': 2 + 2 * i}
        assert commands.presence(client, names, "b") == {}

    def test_many_subjects_are_found(self, client: redis.Redis, names: Names) -> None:
        """A hash that is read in pieces is read as a whole."""
        present = {("a" if i % 2 else "b", f"user {i}"): 1 for i in range(4000)}
        commands.report(client, names, "w", {}, present, whole=True, seconds=60)

        assert len(commands.presence(client, names, "a")) == 2000


class TestFullRedis:
    """A Redis at its bound of memory."""

    @pytest.fixture
    def full(self, client: redis.Redis) -> Iterator[redis.Redis]:
        yield client
        client.config_set("maxmemory", 0)

    def test_it_refuses_to_publish_and_goes_on_with_the_rest(self, full: redis.Redis, names: Names) -> None:
        """Publishers are told to come back; streams live on, since clock, history and leases need no more memory."""
        commands.publish(full, names, [ITEM], batch_key="", key_window_ms=1000, max_keys=10)
        commands.report(full, names, "w", {"a": 1}, {}, whole=True, seconds=60)
        full.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError) as caught:
            commands.publish(full, names, [ITEM], batch_key="k", key_window_ms=1000, max_keys=10)
        clock = commands.beat(full, names, interval_ms=0)
        (found,) = commands.history(full, names, [Wanted("a", 0, 10, 1000, 0)], clock.last)

        assert is_retryable(caught.value)
        assert len(found.entries) == 1
        assert commands.hold_lease(full, names, "l", "me", 60, "note") == (True, "note")
        assert not commands.report(full, names, "w", {"b": 1}, {}, whole=False, seconds=60)
        assert commands.audience(full, names) == {"a": 1}
