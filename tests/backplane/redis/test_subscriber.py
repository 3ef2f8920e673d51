"""`Subscriber`, on real connections of each kind."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import trustme

from sse_core.backplane.redis.subscriber import Reply, Subscriber
from sse_core.backplane.redis.topology import topology
from tests.ports import free_port
from tests.redisserver import TIMEOUT, RedisServer, redis_server, wait_until


def connect(url: str) -> Subscriber:
    """A subscriber to the server that a URL names."""
    return topology(url, timeout=TIMEOUT).connect("n")


def take(subscriber: Subscriber, count: int) -> list[Reply]:
    """Wait, as a selector does, until so many replies have come."""
    replies: list[Reply] = []
    end = time.monotonic() + TIMEOUT
    while len(replies) < count:
        assert time.monotonic() < end, f"{len(replies)} of {count} replies came"
        select.select([subscriber], [], [], 1.0)
        replies += subscriber.receive()
    return replies


def answer_nonsense(listener: socket.socket) -> None:
    """Be a Redis until the first subscription."""
    connection, _ = listener.accept()
    with connection:
        while b"SSUBSCRIBE" not in connection.recv(4096):
            connection.sendall(b"+OK\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.fixture
def subscriber(server: RedisServer) -> Iterator[Subscriber]:
    subscriber = connect(server.url)
    yield subscriber
    subscriber.close()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, str]]:
    """A server with TLS and a password, and the URL of that."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    port = free_port()
    options = ["--tls-port", port, "--tls-auth-clients", "no", "--requirepass", "p@ss/word"]
    options += ["--tls-cert-file", folder / "cert.pem", "--tls-key-file", folder / "key.pem"]
    options += ["--tls-ca-cert-file", folder / "ca.pem"]
    with redis_server(folder, options=options) as server:
        yield server, f"rediss://:p%40ss%2Fword@127.0.0.1:{port}/3?ssl_ca_certs={folder / 'ca.pem'}"


class TestSubscribing:
    """Channels."""

    def test_subscriptions_are_confirmed(self, subscriber: Subscriber) -> None:
        """Each by a reply of its own, as is each that is left; nothing else is said."""
        subscriber.subscribe(["{n}:live:ü", b"{n}:beat"])

        assert take(subscriber, 2) == [(b"ssubscribe", "{n}:live:ü".encode(), 1), (b"ssubscribe", b"{n}:beat", 2)]

        subscriber.unsubscribe([b"{n}:beat", "{n}:none"])

        assert take(subscriber, 2) == [(b"sunsubscribe", b"{n}:beat", 1), (b"sunsubscribe", b"{n}:none", 1)]
        assert subscriber.receive() == []

    def test_ten_thousand_channels_are_subscribed(self, subscriber: Subscriber, client: redis.Redis) -> None:
        """In commands of some hundred, and all of them hear."""
        channels = [f"{{n}}:live:{i}".encode() for i in range(10_000)]
        client.config_resetstat()
        subscriber.subscribe(channels)
        replies = take(subscriber, 10_000)

        assert [(kind, channel) for kind, channel, _ in replies] == [(b"ssubscribe", each) for each in channels]
        assert client.info("commandstats")["cmdstat_ssubscribe"]["calls"] == 20

        client.spublish("{n}:live:9999", "x")

        assert take(subscriber, 1) == [(b"smessage", b"{n}:live:9999", b"x")]

    def test_channels_of_several_namespaces_go_in_commands_of_their_own(
        self, subscriber: Subscriber, client: redis.Redis
    ) -> None:
        """A Cluster takes channels of one slot in a command."""
        client.config_resetstat()
        subscriber.subscribe(["{a}:x", "{b}:x", "{a}:y", "plain"])
        replies = take(subscriber, 4)

        assert {channel for _, channel, _ in replies} == {b"{a}:x", b"{b}:x", b"{a}:y", b"plain"}
        assert client.info("commandstats")["cmdstat_ssubscribe"]["calls"] == 3

    def test_nothing_is_no_command(self, subscriber: Subscriber, client: redis.Redis) -> None:
        """To leave no channel is not to leave all, which is what Redis makes of a bare command."""
        subscriber.subscribe(["{n}:a"])
        take(subscriber, 1)
        subscriber.unsubscribe([])
        subscriber.subscribe([])
        client.spublish("{n}:a", "x")

        assert take(subscriber, 1) == [(b"smessage", b"{n}:a", b"x")]


class TestReceiving:
    """Messages."""

    def test_nothing_there_is_an_empty_list(self, subscriber: Subscriber) -> None:
        """It never waits."""
        assert subscriber.receive() == []

    def test_messages_come_in_order(self, subscriber: Subscriber, client: redis.Redis) -> None:
        """Any bytes, any size: what is larger than a read is put together, and nothing is mixed up."""
        subscriber.subscribe(["{n}:a", "{n}:b"])
        take(subscriber, 2)
        payloads = [b"", b"\r\n", b"\xff\0", b"+OK\r\n", b"x" * 3_000_000, b"$5\r\nhello\r\n", b"end"]
        pipeline = client.pipeline(transaction=False)
        for i, payload in enumerate(payloads):
            pipeline.spublish(f"{{n}}:{'ab'[i % 2]}", payload)
        pipeline.execute()

        assert take(subscriber, len(payloads)) == [
            (b"smessage", f"{{n}}:{'ab'[i % 2]}".encode(), payload) for i, payload in enumerate(payloads)
        ]

    def test_one_call_does_not_go_on_for_ever(self, subscriber: Subscriber, client: redis.Redis) -> None:
        """However much is waiting: about a megabyte is taken at a time, and the rest is still readable."""
        subscriber.subscribe(["{n}:a"])
        take(subscriber, 1)
        pipeline = client.pipeline(transaction=False)
        for _ in range(3000):
            pipeline.spublish("{n}:a", b"x" * 1000)
        pipeline.execute()
        wait_until(lambda: select.select([subscriber], [], [], 0)[0], "messages have come")
        sizes = []
        while sum(sizes) < 3000:
            select.select([subscriber], [], [], TIMEOUT)
            sizes.append(len(subscriber.receive()))

        assert max(sizes) < 1400

    def test_an_end_is_told_after_what_came_before_it(self, subscriber: Subscriber, client: redis.Redis) -> None:
        """The last messages of a connection are not lost with it, and then each call says that it has ended."""
        subscriber.subscribe(["{n}:a"])
        take(subscriber, 1)
        client.spublish("{n}:a", "last")
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        assert take(subscriber, 1) == [(b"smessage", b"{n}:a", b"last")]

        select.select([subscriber], [], [], TIMEOUT)

        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                subscriber.receive()

    def test_an_error_reply_is_raised(self, subscriber: Subscriber, server: RedisServer) -> None:
        """What Redis refuses is not taken for silence."""
        client = server.client()
        client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        try:
            subscriber.subscribe(["{n}:a"])
            with pytest.raises(redis.ResponseError, match="NOPERM"):
                take(subscriber, 1)
        finally:
            client.execute_command("ACL", "SETUSER", "default", "allchannels")

    def test_what_is_not_redis_is_a_connection_error(self) -> None:
        """Bytes that are not its protocol end a connection: nothing that follows can be trusted."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=answer_nonsense, args=(listener,))
            server.start()
            subscriber = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}")
            subscriber.subscribe(["{n}:a"])
            with pytest.raises(redis.ConnectionError, match="Protocol error"):
                take(subscriber, 1)
            subscriber.close()
            server.join()

    def test_a_closed_one_receives_no_more(self, server: RedisServer) -> None:
        """It says so, and may be closed again."""
        subscriber = connect(server.url)
        subscriber.close()
        subscriber.close()

        with pytest.raises(redis.ConnectionError):
            subscriber.receive()
        with pytest.raises(redis.ConnectionError):
            subscriber.subscribe(["{n}:a"])


class TestConnections:
    """How it connects."""

    def test_a_unix_socket_will_do(self, server: RedisServer, client: redis.Redis) -> None:
        """The same server, without the network."""
        subscriber = connect(server.unix_url)
        subscriber.subscribe(["{n}:a"])
        take(subscriber, 1)
        client.spublish("{n}:a", "x")

        assert take(subscriber, 1) == [(b"smessage", b"{n}:a", b"x")]
        subscriber.close()

    def test_tls_hides_nothing(self, tls_server: tuple[RedisServer, str]) -> None:
        """What TLS has decrypted makes no descriptor readable, so a call takes all of it."""
        server, url = tls_server
        client = server.client(password="p@ss/word")
        subscriber = connect(url)
        channels = [f"{{n}}:{i}" for i in range(3000)]
        subscriber.subscribe(channels)
        take(subscriber, 3000)
        for count in (1, 2, 10, 1000):
            pipeline = client.pipeline(transaction=False)
            for i in range(count):
                pipeline.spublish(f"{{n}}:{i}", b"%d" % i + b"x" * 4000)
            pipeline.execute()
            replies = take(subscriber, count)
            assert [int(data.rstrip(b"x")) for _, _, data in replies if isinstance(data, bytes)] == list(range(count))
        subscriber.close()

    def test_tls_is_verified(self, tls_server: tuple[RedisServer, str]) -> None:
        """A certificate of an unknown authority is refused."""
        _, url = tls_server

        with pytest.raises((redis.ConnectionError, ssl.SSLError)):
            connect(url.partition("?")[0])

    def test_it_authenticates_and_has_a_name(self, tls_server: tuple[RedisServer, str]) -> None:
        """An operator finds the kit's connections by name, and in the database of the URL."""
        server, url = tls_server
        subscriber = connect(url)
        clients = server.client(password="p@ss/word").client_list()

        assert ("sse-kit", "3", "2") in [(each["name"], each["db"], each["resp"]) for each in clients]
        subscriber.close()
        subscriber.close()

    def test_a_wrong_password_is_an_authentication_error(self, tls_server: tuple[RedisServer, str]) -> None:
        """Which is told from a server that is away."""
        _, url = tls_server

        with pytest.raises(redis.AuthenticationError):
            connect(url.replace("p%40ss", "wrong"))

    def test_nobody_there_is_a_connection_error(self) -> None:
        """And nothing is tried twice: who connects knows how long to go on."""
        with pytest.raises(redis.ConnectionError):
            connect(f"redis://127.0.0.1:{free_port()}")

    def test_a_server_that_hangs_is_a_timeout(self, tmp_path: Path) -> None:
        """A server that takes connections and never answers costs the timeout, no more."""
        with ExitStack() as stack:
            server = stack.enter_context(redis_server(tmp_path))
            server.pause()
            with pytest.raises(redis.TimeoutError):
                topology(server.url, timeout=0.1).connect("n")
