"""Publishing with a redis-py client, and with redis-cli."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

import sse_core
from sse_core.backplane import Receipt
from sse_core.backplane.redis import commands
from sse_core.backplane.redis.commands import Wanted
from sse_core.backplane.redis.names import Names
from sse_core.errors import BackplaneError, ConfigurationError, EventError, TopicError
from sse_core.event import Event
from sse_core.topics import TopicOptions
from tests.ports import free_port
from tests.redisserver import RedisServer

EVER = 2**64 - 1


def kept(client: redis.Redis, names: Names, topic: str) -> list[Event]:
    """What lies in a topic's history."""
    (found,) = commands.history(client, names, [Wanted(topic, 0, 1000, 1 << 20, 0)], EVER)
    return [entry.event for entry in found.entries]


class TestPublish:
    """One event."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"decode_responses": True}, {"protocol": 3}, {"encoding": "latin-1", "decode_responses": True}],
        ids=str,
    )
    def test_any_client_will_do(
        self, server: RedisServer, client: redis.Redis, names: Names, options: dict[str, Any]
    ) -> None:
        """Whatever it decodes, whatever it encodes by, whichever protocol it speaks."""
        own = server.client(**options)
        first = sse_core.publish(own, "ü", "für €", event="é", id="ключ", retry=5, namespace=names.namespace)
        again = sse_core.publish(own, "ü", "für €", id="ключ", namespace=names.namespace)

        assert not first.duplicate
        assert again == Receipt(first.id, True)
        assert kept(client, names, "ü") == [Event("für €", event="é", retry=5)]

    def test_the_namespace_is_the_default_one(self, client: redis.Redis) -> None:
        """It is that of hubs which name none."""
        sse_core.publish(client, "a", {"json": [1, None]})

        assert kept(client, Names("default"), "a") == [Event('{"json":[1,null]}')]

    def test_an_event_is_taken_as_it_is(self, client: redis.Redis, names: Names) -> None:
        """And then it brings its own fields."""
        event = Event("x", event="news", comment="c")
        sse_core.publish(client, "a", event, namespace=names.namespace)

        assert kept(client, names, "a") == [event]
        with pytest.raises(TypeError, match="brings its own"):
            sse_core.publish(client, "a", event, retry=5)

    def test_options_bound_the_topic(self, client: redis.Redis, names: Names) -> None:
        """Length and age of its history are those of the options."""
        options = TopicOptions(history_events=10, history_age=50)
        for _ in range(300):
            sse_core.publish(client, "a", "x", namespace=names.namespace, options=options)

        assert client.xlen(names.topic("a")) < 200
        assert 40_000 < client.pttl(names.topic("a")) <= 50_001

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda client: sse_core.publish(client, "", "x"), TopicError),
            (lambda client: sse_core.publish(client, "a", "x", event="a\nb"), EventError),
            (lambda client: sse_core.publish(client, "a", None), EventError),
            (lambda client: sse_core.publish(client, "a", "x", namespace="}"), ConfigurationError),
            (lambda client: sse_core.publish(client, "a", "x", max_keys=1), ConfigurationError),
            (lambda client: sse_core.publish_many(client, [("a", "x")]), TypeError),
            (lambda client: sse_core.publish_many(client, [("a", Event(event="x"))]), EventError),
        ],
    )
    def test_what_cannot_be_published_is_refused(
        self, client: redis.Redis, call: Callable[[redis.Redis], object], error: type[Exception]
    ) -> None:
        """By the same errors as a hub's."""
        with pytest.raises(error):
            call(client)
        assert client.keys("*") == []

    def test_an_answer_that_was_lost_is_asked_for_again(self, server: RedisServer, names: Names) -> None:
        """redis-py repeats a call by itself; the event is published once all the same."""
        client = server.client(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 3))
        connection_class = client.connection_pool.connection_class
        losses = [1]

        class Losing(connection_class):  # type: ignore[misc, valid-type]
            def read_response(self, *arguments: Any, **options: Any) -> Any:
                reply = super().read_response(*arguments, **options)
                if isinstance(reply, list) and losses:
                    losses.pop()
                    self.disconnect()
                    raise redis.ConnectionError("the answer was lost")
                return reply

        client.connection_pool.connection_class = Losing
        sse_core.publish(client, "a", "x", namespace=names.namespace)

        assert losses == []
        assert client.xlen(names.topic("a")) == 1

    def test_a_server_that_is_away_is_told(self) -> None:
        """The caller may repeat the call with the same key."""
        away = redis.Redis(port=free_port(), retry=None)

        with pytest.raises(BackplaneError, match="did not publish"):
            sse_core.publish(away, "a", "x", id="key")

    def test_other_errors_are_redis_s(self, client: redis.Redis, names: Names) -> None:
        """What is wrong in Redis and does not go away by itself is not taken for a server that is away."""
        client.set(names.topic("a"), "mine")

        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            sse_core.publish(client, "a", "x", namespace=names.namespace)


class TestPublishMany:
    """Several events."""

    def test_they_are_in_order(self, client: redis.Redis, names: Names) -> None:
        """With consecutive ids, each in its topic."""
        items = [("ab"[i % 2], Event(str(i))) for i in range(10)]
        receipts = sse_core.publish_many(client, items, namespace=names.namespace)

        assert len({receipt.id for receipt in receipts}) == 10
        assert [event.data for event in kept(client, names, "a")] == ["0", "2", "4", "6", "8"]

    def test_none_is_none(self, client: redis.Redis) -> None:
        """An empty batch asks nothing of Redis."""
        assert sse_core.publish_many(client, []) == []
        assert client.keys("*") == []

    def test_options_go_by_patterns(self, client: redis.Redis, names: Names) -> None:
        """As a hub takes them, so that both can be given the same."""
        rules = {"short.*": TopicOptions(history_age=50), "*": TopicOptions(history_age=0)}
        items = [("short.a", Event("x")), ("long", Event("x"))]
        sse_core.publish_many(client, items, namespace=names.namespace, options=rules)

        assert 40_000 < client.pttl(names.topic("short.a")) <= 50_001
        assert client.pttl(names.topic("long")) == -1
