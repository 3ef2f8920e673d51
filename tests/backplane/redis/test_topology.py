"""Who is primary: URLs, one server, Sentinel, Cluster."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot

from sse_core.backplane.redis import commands, url
from sse_core.backplane.redis.client import redis_client
from sse_core.backplane.redis.commands import Item
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.publisher import publish as publish_by
from sse_core.backplane.redis.subscriber import Reply, Subscriber
from sse_core.backplane.redis.topology import Topology, is_retryable, topology
from sse_core.errors import ConfigurationError
from sse_core.event import Event
from tests.ports import free_port
from tests.redisserver import (
    TIMEOUT,
    Cluster,
    RedisServer,
    Sentinel,
    cluster,
    redis_server,
    sentinel,
    wait_until,
)


def publish(place: Topology, names: Names, topic: str, *, key: str | None = None) -> str:
    """Publish one event by way of a topology; return its id."""
    (receipt,) = commands.publish(
        place.client(names.namespace),
        names,
        [Item(topic, Event("x", id=key), 100, 3_600_000)],
        batch_key="",
        key_window_ms=60_000,
        max_keys=1000,
    )
    return receipt.id


def attempt(place: Topology, names: Names, topic: str, *, key: str) -> str | None:
    """Publish, or None where the error is one that passes."""
    try:
        return publish(place, names, topic, key=key)
    except Exception as error:
        if not is_retryable(error):
            raise
        return None


def publish_again(place: Topology, names: Names, topic: str, *, key: str) -> str:
    """Publish as a hub does: while the error is one that passes, learn who is primary and try again."""
    found = wait_until(lambda: attempt(place, names, topic, key=key) or refresh(place), "the event could be published")
    assert found is not None
    return found


def refresh(place: Topology) -> None:
    try:
        place.refresh()
    except Exception as error:
        if not is_retryable(error):
            raise


def take(subscriber: Subscriber, count: int) -> list[Reply]:
    """Wait until so many replies have come."""
    replies: list[Reply] = []
    while len(replies) < count:
        ready, _, _ = select.select([subscriber], [], [], TIMEOUT)
        assert ready, f"{len(replies)} of {count} replies came"
        replies += subscriber.receive()
    return replies


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinel]:
    with sentinel(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class TestURL:
    """What a URL says."""

    @pytest.mark.parametrize(
        ("text", "kind", "hosts"),
        [
            ("redis://h", "standalone", (("h", 6379),)),
            ("redis://h:1/2", "standalone", (("h", 1),)),
            ("valkey://h:1", "standalone", (("h", 1),)),
            ("rediss://[::1]:1", "standalone", (("::1", 1),)),
            ("redis+sentinel://a,b:2/main", "sentinel", (("a", 26379), ("b", 2))),
            ("valkeys+sentinel://a/main/1", "sentinel", (("a", 26379),)),
            ("redis+cluster://a:1,[::1]", "cluster", (("a", 1), ("::1", 6379))),
            ("rediss+cluster://a/0", "cluster", (("a", 6379),)),
        ],
    )
    def test_it_names_hosts(self, text: str, kind: str, hosts: tuple[tuple[str, int], ...]) -> None:
        """One, or those to ask, with the ports that are usual."""
        place = url.parse(text)

        assert (place.kind, place.hosts) == (kind, hosts)

    def test_it_has_options(self) -> None:
        """User, password, database and what redis-py's connections take; the sentinels have a password of their own."""
        place = url.parse("rediss+sentinel://me:p%40ss%2F%3A@a/main/3?ssl_cert_reqs=none&sentinel_password=s%25")

        assert place.service == "main"
        assert place.options == {"username": "me", "password": "p@ss/:", "db": 3, "ssl_cert_reqs": "none"}
        assert place.sentinel_options == {"ssl_cert_reqs": "none", "password": "s%", "ssl": True}
        assert url.parse("unix://me:pass@/run/redis.sock?db=2").options == {
            "username": "me",
            "password": "pass",
            "path": "/run/redis.sock",
            "db": 2,
        }

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "redis",
            "http://h",
            "redis+proxy://h",
            "redis://",
            "redis://:secret@",
            "redis://h:port",
            "redis://h:99999",
            "redis://a,b:secret@a,b",
            "redis://h/first",
            "redis://h/1/2",
            "redis://:secret@h?socket_timeout=soon",
            "redis://:secret@h?unheard=of",
            "redis://:secret@h?decode_responses=1",
            "rediss://:secret@h?ssl_cert_reqs=maybe",
            "redis+sentinel://:secret@a,b",
            "redis+sentinel://:secret@a,b/",
            "redis+sentinel://a,,b/main",
            "redis+cluster://:secret@a,b/1",
            "unix:///run/redis.sock?unheard=of",
        ],
    )
    def test_what_it_cannot_say_is_refused(self, text: str) -> None:
        """At once, and without telling the password."""
        with pytest.raises(ConfigurationError) as caught:
            topology(text, timeout=1)
        assert str(caught.value).startswith("backplane: ")
        assert "secret" not in str(caught.value)


class TestErrors:
    """Which errors pass."""

    @pytest.mark.parametrize(
        "error",
        [
            redis.ConnectionError("refused"),
            redis.TimeoutError("read"),
            redis.BusyLoadingError("LOADING"),
            redis.ReadOnlyError("You can't write against a read only replica."),
            redis.exceptions.MovedError("1 127.0.0.1:7000"),
            redis.exceptions.AskError("1 127.0.0.1:7000"),
            redis.exceptions.ClusterDownError("The cluster is down"),
            redis.exceptions.MasterDownError("Link with MASTER is down"),
            redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
            redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
            redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
            redis.ResponseError("BUSY Redis is busy running a script."),
            redis.ResponseError("UNBLOCKED force unblock from blocking operation"),
            redis.sentinel.MasterNotFoundError("No master found"),
        ],
        ids=lambda error: type(error).__name__ + " " + str(error).partition(" ")[0],
    )
    def test_these_pass(self, error: Exception) -> None:
        """The server is away, has moved or cannot write: asking anew who is primary, and trying again, can help."""
        assert is_retryable(error)

    @pytest.mark.parametrize(
        "error",
        [
            redis.AuthenticationError("invalid username-password pair"),
            redis.exceptions.AuthorizationError("no"),
            redis.exceptions.NoPermissionError("this user has no permissions"),
            redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
            redis.ResponseError("ERR unknown command"),
            redis.DataError("Invalid input"),
            ValueError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_these_stay(self, error: Exception) -> None:
        """What is wrong with the caller or the configuration does not go away by waiting."""
        assert not is_retryable(error)


class TestStandalone:
    """One server."""

    def test_all_namespaces_share_it(self, server: RedisServer) -> None:
        """One shard, one pool."""
        place = topology(server.url, timeout=TIMEOUT)

        assert place.shard("a") == place.shard("b")
        assert place.client("a") is place.client("b")
        assert place.shard("a") == topology(server.url, timeout=TIMEOUT).shard("a")
        place.refresh()
        place.close()

    @pytest.mark.parametrize("attribute", ["url", "unix_url"])
    def test_it_publishes_and_hears(self, server: RedisServer, names: Names, attribute: str) -> None:
        """Over TCP and over a unix socket."""
        place = topology(getattr(server, attribute), timeout=TIMEOUT)
        subscriber = place.connect(names.namespace)
        subscriber.subscribe([names.live("a")])
        take(subscriber, 1)
        publish(place, names, "a")

        assert take(subscriber, 1)[0][:2] == (b"smessage", names.live("a"))
        subscriber.close()
        place.close()

    def test_more_threads_than_connections_are_no_error(self, server: RedisServer, names: Names) -> None:
        """The pool grows with what is asked of it."""
        place = topology(server.url, timeout=TIMEOUT)
        barrier = threading.Barrier(150)
        ids = set()

        def call() -> None:
            barrier.wait(TIMEOUT)
            ids.add(publish(place, names, "a"))

        threads = [threading.Thread(target=call) for _ in range(150)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        place.close()

        assert len(ids) == 150

    def test_a_connection_that_broke_while_idle_is_replaced(self, server: RedisServer, names: Names) -> None:
        """After a restart of Redis the first call succeeds."""
        place = topology(server.url, timeout=TIMEOUT)
        publish(place, names, "a")
        server.stop()
        server.start()

        assert publish(place, names, "a")
        place.close()

    def test_a_server_that_hangs_costs_the_timeout(self, server: RedisServer, names: Names) -> None:
        """And is told as one that may come back."""
        place = topology(server.url, timeout=0.1)
        publish(place, names, "a")
        server.pause()
        try:
            with pytest.raises(redis.TimeoutError) as caught:
                publish(place, names, "a")
        finally:
            server.resume()
        place.close()

        assert is_retryable(caught.value)

    def test_an_operator_sees_the_kit_s_name(self, server: RedisServer) -> None:
        """CLIENT LIST tells whose connections these are."""
        place = topology(server.url, timeout=TIMEOUT)
        place.client("n").ping()

        assert "sse-kit" in {each["name"] for each in server.client().client_list()}
        place.close()

    def test_nothing_connects_before_it_is_used(self) -> None:
        """A service may be made before its Redis is there."""
        place = topology(f"redis://127.0.0.1:{free_port()}", timeout=1)

        assert place.shard("n")
        with pytest.raises(redis.ConnectionError) as caught:
            place.client("n").ping()
        assert is_retryable(caught.value)
        place.close()


class TestSentinel:
    """A primary that changes."""

    def test_the_primary_is_found(self, sentinels: Sentinel, names: Names) -> None:
        """By asking, also if the first of those that are named is not there."""
        hosts = sentinels.url.partition("//")[2]
        place = topology(f"redis+sentinel://127.0.0.1:{free_port()},{hosts}", timeout=TIMEOUT)
        subscriber = place.connect(names.namespace)
        subscriber.subscribe([names.live("a")])
        take(subscriber, 1)
        publish(place, names, "a")

        assert take(subscriber, 1)[0][0] == b"smessage"
        assert place.shard("a") == ("127.0.0.1", sentinels.primary().port)
        assert sentinels.primary().client().xlen(names.topic("a")) == 1
        subscriber.close()
        place.close()

    def test_an_unknown_service_is_told(self, sentinels: Sentinel) -> None:
        """As what may become known: sentinels are told of services while they run."""
        place = topology(sentinels.url.replace(sentinels.service, "other"), timeout=TIMEOUT)

        with pytest.raises(redis.ConnectionError, match="other") as caught:
            place.client("n")
        assert is_retryable(caught.value)
        place.close()

    def test_a_fail_over_is_followed(self, sentinels: Sentinel, names: Names) -> None:
        """After the primary has died another one answers: clients, subscribers and scripts are right again, ids go on."""
        place = topology(sentinels.url, timeout=2)
        before = publish(place, names, "a", key="first")
        old, shard = sentinels.primary(), place.shard(names.namespace)
        replicas = [each for each in sentinels.servers if each is not old]
        wait_until(lambda: all(each.client().exists(names.topic("a")) for each in replicas), "the replicas have it")
        subscriber = place.connect(names.namespace)
        old.kill()

        assert select.select([subscriber], [], [], TIMEOUT)[0]
        with pytest.raises(redis.ConnectionError):
            subscriber.receive()

        after = publish_again(place, names, "a", key="second")
        new = sentinels.wait_for_primary(old)

        assert place.shard(names.namespace) != shard
        assert place.shard(names.namespace) == ("127.0.0.1", new.port)
        assert before < after
        assert publish(place, names, "a", key="first") == before
        assert new.client().xlen(names.topic("a")) == 2

        subscriber = place.connect(names.namespace)
        subscriber.subscribe([names.live("a")])
        take(subscriber, 1)
        publish(place, names, "a")

        assert take(subscriber, 1)[0][0] == b"smessage"
        subscriber.close()

        # It comes back as one that believes to be primary, until a sentinel tells it otherwise.
        old.start()
        wait_until(lambda: old.client().info("replication")["role"] == "slave", "the old primary is a replica")
        sentinels.wait_until_healthy()
        place.refresh()

        assert place.shard(names.namespace) == ("127.0.0.1", sentinels.primary().port)
        place.close()

    def test_a_demoted_primary_is_left(self, sentinels: Sentinel, names: Names) -> None:
        """One that lives on as a replica refuses to write, and that leads to the new one; an application's own client, too."""
        place = topology(sentinels.url, timeout=2)
        publish(place, names, "a")
        old = sentinels.primary()
        own = redis_client(sentinels.url, timeout=2)
        heard = own.pubsub()
        heard.subscribe("c")
        new = sentinels.fail_over()
        wait_until(lambda: old.client().info("replication")["role"] == "slave", "the old primary is a replica")
        with pytest.raises(redis.RedisError) as caught:
            publish(place, names, "a")

        assert is_retryable(caught.value)
        assert publish_again(place, names, "a", key="k")
        assert place.shard(names.namespace) == ("127.0.0.1", new.port)
        place.close()

        wait_until(lambda: own.set("k", "v"), "an application's client writes again")
        assert new.client().get("k") == b"v"
        wait_until(
            # Confirmed anew at the new primary.
            lambda: heard.get_message(timeout=0.1) and new.client().publish("c", "x"),
            "an application's subscription is at the new primary",
        )
        heard.close()
        own.close()


class TestCluster:
    """Primaries of slots."""

    def test_namespaces_are_spread(self, nodes: Cluster) -> None:
        """Each is on the primary of its slot, alone with all of its keys; those of one primary share a shard."""
        place = topology(nodes.url, timeout=TIMEOUT)
        names = [Names(f"n{i}") for i in range(30)]
        subscribers = {place.shard(each.namespace): place.connect(each.namespace) for each in names}
        for each in names:
            shard = subscribers[place.shard(each.namespace)]
            shard.subscribe([each.live("a"), each.beat])
            take(shard, 2)
            publish(place, each, "a")
            commands.beat(place.client(each.namespace), each, interval_ms=0)
            heard = [channel for _, channel, _ in take(shard, 2)]
            assert heard == [each.live("a"), each.beat]

        assert len(subscribers) == 3
        for each in names:
            server = nodes.primary_of(each.namespace)
            assert place.shard(each.namespace) == ("127.0.0.1", server.port)
            assert len(server.ask("CLUSTER", "GETKEYSINSLOT", key_slot(each.namespace.encode()), 100)) == 3
        for subscriber in subscribers.values():
            subscriber.close()
        place.close()

    def test_channels_of_several_slots_go_over_one_connection(self, nodes: Cluster) -> None:
        """A subscriber takes all namespaces of its primary, though no one command may."""
        place = topology(nodes.url, timeout=TIMEOUT)
        server = nodes.primary_of("n0")
        together = [f"n{i}" for i in range(50) if nodes.primary_of(f"n{i}") is server]
        channels = [Names(each).beat for each in together]
        subscriber = place.connect("n0")
        subscriber.subscribe(channels)

        assert len(channels) > 5
        assert {channel for _, channel, _ in take(subscriber, len(channels))} == set(channels)
        subscriber.close()
        place.close()

    def test_a_cluster_client_publishes_too(self, nodes: Cluster) -> None:
        """Programs with redis-py's own client for a Cluster need nothing else."""
        for decode in (False, True):
            own = redis.RedisCluster(host="127.0.0.1", port=nodes.servers[0].port, decode_responses=decode)
            for i in range(10):
                names = Names(f"own{i}")
                receipt = publish_by(own, "a", "x", id="k", namespace=names.namespace)
                assert receipt.duplicate == decode
                assert nodes.primary_of(names.namespace).client().xlen(names.topic("a")) == 1
            own.close()

    def test_a_subscription_in_the_wrong_place_is_told(self, nodes: Cluster) -> None:
        """MOVED is an error that leads to a refresh, not silence."""
        place = topology(nodes.url, timeout=TIMEOUT)
        other = next(f"n{i}" for i in range(50) if place.shard(f"n{i}") != place.shard("n0"))
        subscriber = place.connect("n0")
        subscriber.subscribe([Names(other).beat])
        with pytest.raises(redis.exceptions.MovedError) as caught:
            take(subscriber, 1)

        assert is_retryable(caught.value)
        subscriber.close()
        place.close()

    def test_a_slot_that_was_moved_is_followed(self, nodes: Cluster) -> None:
        """The old place says so to clients (MOVED) and to subscribers (unsubscribed); after a refresh all is at the new one."""
        names = Names("moved")
        place = topology(nodes.url, timeout=TIMEOUT)
        before = publish(place, names, "a", key="first")
        subscriber = place.connect(names.namespace)
        subscriber.subscribe([names.live("a"), names.beat])
        take(subscriber, 2)
        source = nodes.primary_of(names.namespace)
        target = next(nodes.primary_of(f"n{i}") for i in range(50) if nodes.primary_of(f"n{i}") is not source)
        nodes.move(names.namespace, target)

        assert {reply[:2] for reply in take(subscriber, 2)} == {
            (b"sunsubscribe", names.live("a")),
            (b"sunsubscribe", names.beat),
        }
        with pytest.raises(redis.exceptions.MovedError) as caught:
            publish(place, names, "a")
        assert is_retryable(caught.value)

        place.refresh()

        assert place.shard(names.namespace) == ("127.0.0.1", target.port)
        assert publish(place, names, "a", key="first") == before
        assert publish(place, names, "a", key="second") > before
        assert target.client().xlen(names.topic("a")) == 2
        subscriber.close()
        place.close()

    @pytest.mark.parametrize("moved", range(7))
    def test_nothing_is_half_done_while_a_slot_moves(self, nodes: Cluster, moved: int) -> None:
        """Whichever keys are still here: all of a publish happens or nothing, and the same call succeeds once all is there."""
        names = Names(f"moving{moved}")
        place = topology(nodes.url, timeout=TIMEOUT)
        publish(place, names, "a", key="first")
        publish(place, names, "b")
        source = nodes.primary_of(names.namespace)
        target = next(nodes.primary_of(f"n{i}") for i in range(50) if nodes.primary_of(f"n{i}") is not source)
        nodes.begin_move(names.namespace, target)
        nodes.move_keys(names.namespace, source, target, moved)
        calls = (("first", "a"), ("second", "a"), ("third", "b"), ("fourth", "new"))
        done = [(key, attempt(place, names, topic, key=key)) for key, topic in calls]
        nodes.move_keys(names.namespace, source, target)
        nodes.end_move(names.namespace, target)
        ids = {key: publish_again(place, names, topic, key=key) for key, topic in (("second", "a"), ("third", "b"))}

        assert all(ids.get(key, id) == id for key, id in done if id)
        assert target.client().xlen(names.topic("a")) == 2
        assert target.client().xlen(names.topic("b")) == 2
        assert target.client().get(names.tail("a")) == ids["second"].encode()
        place.close()

    def test_a_lost_primary_is_replaced(self, nodes: Cluster) -> None:
        """Its replica is promoted, and what it has is there; ids go on, and the script comes with the first call."""
        names = Names("lost")
        place = topology(nodes.url, timeout=2)
        before = publish(place, names, "a", key="first")
        old = nodes.primary_of(names.namespace)
        replica = nodes.replica_of(old)
        written = old.client().info("replication")["master_repl_offset"]
        wait_until(lambda: replica.client().info("replication")["slave_repl_offset"] >= written, "the replica has it")
        old.kill()
        after = publish_again(place, names, "a", key="second")

        assert place.shard(names.namespace) == ("127.0.0.1", replica.port)
        assert after > before
        assert publish(place, names, "a", key="first") == before
        assert replica.client().xlen(names.topic("a")) == 2

        old.start()
        nodes.wait_until_healthy()
        place.close()

    def test_nobody_there_is_told(self) -> None:
        """As what may pass."""
        place = topology(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}", timeout=1)

        with pytest.raises(redis.ConnectionError) as caught:
            place.client("n")
        assert is_retryable(caught.value)
        place.close()

    def test_a_server_that_is_no_cluster_is_told(self, server: RedisServer) -> None:
        """That does not pass, and says what it is."""
        place = topology(server.url.replace("redis://", "redis+cluster://"), timeout=1)

        with pytest.raises(redis.ResponseError, match="cluster support disabled") as caught:
            place.client("n")
        assert not is_retryable(caught.value)
        place.close()

    def test_a_cluster_without_slots_is_told(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """One that is still being made."""
        options = ("--cluster-enabled", "yes", "--cluster-port", free_port())
        with redis_server(tmp_path_factory.mktemp("empty"), options=options) as alone:
            place = topology(alone.url.replace("redis://", "redis+cluster://"), timeout=1)
            with pytest.raises(redis.exceptions.ClusterDownError) as caught:
                place.client("n")
            assert is_retryable(caught.value)
            place.close()
