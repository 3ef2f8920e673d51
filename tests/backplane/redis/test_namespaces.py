"""Several feeds in one process."""

from __future__ import annotations

import threading

import redis

from sse_core import Hub, RedisBackplane
from tests.backplane.redis.hubs import listen
from tests.fanout.harness import eventually
from tests.redisserver import RedisServer


class TestNamespaces:
    """Feeds beside one another."""

    def test_siblings_share_a_connection_and_nothing_else(self, server: RedisServer, client: redis.Redis) -> None:
        """Two namespaces of a process have one subscriber connection, and none of each other's events."""
        first = RedisBackplane(server.unix_url, namespace="left")
        with Hub(first) as left, Hub(first.sibling("right")) as right:
            one, two = listen(left), listen(right)
            here, there = left.publish("a", "left").id, right.publish("a", "right").id
            one.until(here)
            two.until(there)

            assert (one.ids, two.ids) == ([here], [there])
            assert len(client.client_list(_type="pubsub")) == 1
            assert (left.namespace, right.namespace) == ("left", "right")

    def test_closing_one_leaves_the_other(self, server: RedisServer) -> None:
        """A hub that is closed takes its namespace from the connection, and the others go on."""
        first = RedisBackplane(server.unix_url, namespace="left")
        with Hub(first.sibling("right")) as right:
            with Hub(first) as left:
                listen(left)
                stream = listen(right)
            for n in range(20):
                stream.until(right.publish("a", str(n)).id)

            assert len(stream.ids) == 20

    def test_threads_and_connections_end_with_the_last_hub(self, server: RedisServer, client: redis.Redis) -> None:
        """A process that closes its hubs is left with no thread and no subscriber connection of theirs."""
        with Hub(RedisBackplane(server.unix_url, namespace="ending")) as hub:
            listen(hub).socket.close()
        eventually(
            lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("sse-redis")],
            "the end of the threads",
        )
        eventually(lambda: not client.client_list(_type="pubsub"), "the end of the connection")
