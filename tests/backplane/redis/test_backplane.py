"""Hubs that Redis joins: one order, whichever of them publishes and whichever serves."""

from __future__ import annotations

import os
import threading

import pytest

from sse_core import ConfigurationError, Event, EventError, Hub, RedisBackplane
from sse_core.backplane.redis.names import Names
from tests.backplane.redis.hubs import MakeHub, listen
from tests.fanout.harness import eventually
from tests.redisserver import RedisServer


class TestJoined:
    """What one hub publishes the others have."""

    def test_an_event_reaches_the_streams_of_all_hubs_with_one_id(self, make: MakeHub) -> None:
        """The id in the publisher's receipt is the id that every stream of every process sees."""
        one, two = make(), make()
        here, there = listen(one), listen(two)
        receipt = one.publish("a", {"n": 1}, event="made")

        assert here.until(receipt.id) == there.until(receipt.id) == [Event({"n": 1}, event="made", id=receipt.id)]

    def test_publishers_in_all_hubs_give_one_order(self, make: MakeHub) -> None:
        """However publishers of several processes race, every stream sees the same events in the order of ids."""
        hubs = [make(), make()]
        streams = [listen(hub, ["a", "b"]) for hub in hubs]
        threads = [
            threading.Thread(target=lambda hub=hub, topic=topic: [hub.publish(topic, str(n)) for n in range(50)])
            for hub in hubs
            for topic in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last = hubs[0].publish("a", "end").id
        for stream in streams:
            stream.until(last)

        assert streams[0].events == streams[1].events
        assert len(streams[0].ids) == 201
        assert not streams[0].gaps

    def test_a_key_published_twice_is_one_event_whoever_publishes_it(self, make: MakeHub) -> None:
        """An idempotency key counts in the whole namespace."""
        one, two = make(), make()
        first, again = one.publish("a", "x", id="k"), two.publish("a", "x", id="k")

        assert (again.id, again.duplicate) == (first.id, True)
        assert two.stats()["duplicates"] == 1

    def test_keys_forgotten_early_are_known_to_all_hubs(self, make: MakeHub, server: RedisServer, names: Names) -> None:
        """Whichever process publishes more keys than are remembered, each one's numbers say so."""
        few = RedisBackplane(server.unix_url, namespace=names.namespace, max_keys=4)
        with Hub(few) as one:
            for n in range(12):
                one.publish("a", "x", id=f"k{n}")
        two = make()
        assert two.stats()["keys_evicted"] == 0, "it has not heard of it yet"
        listen(two)
        eventually(lambda: two.stats()["keys_evicted"] > 0, "the first report")

    def test_a_batch_is_all_or_none_and_in_order(self, make: MakeHub) -> None:
        """A batch of several topics arrives as one run of ids."""
        one, two = make(), make()
        stream = listen(two, ["a", "b"])
        receipts = one.publish_many([("a", Event("1")), ("b", Event("2")), ("a", Event("3"))])
        stream.until(receipts[-1].id)

        assert [event.data for event in stream.events] == ["1", "2", "3"]
        assert stream.ids == [receipt.id for receipt in receipts]

    def test_an_event_too_large_is_refused_before_it_is_published(self, make: MakeHub) -> None:
        """The bound on one event holds for the publisher, and nothing of it gets into Redis."""
        hub = make(max_event_bytes=1000)
        stream = listen(hub)
        with pytest.raises(EventError, match="max_event_bytes is 1000"):
            hub.publish("a", "x" * 1000)
        last = hub.publish("a", "y").id
        stream.until(last)

        assert stream.ids == [last]
        assert hub.stats()["events_refused"] == 1


class TestLife:
    """Processes."""

    def test_a_hub_made_before_a_fork_works_in_the_child(self, server: RedisServer, names: Names) -> None:
        """A preloaded application's hub connects in each worker anew, even if the parent has used it."""
        with Hub(RedisBackplane(server.unix_url, namespace=names.namespace)) as hub:
            stream = listen(hub)
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    theirs = listen(hub)
                    last = hub.publish("a", "child").id
                    theirs.until(last)
                    os.write(writing, last.encode())
                finally:
                    os._exit(0)
            os.close(writing)
            last = os.read(reading, 100).decode()
            os.waitpid(child, 0)
            os.close(reading)
            assert last
            stream.until(last)

            assert [event.data for event in stream.events] == ["child"]

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"timeout": 0}, "timeout"),
            ({"key_window": 1.0}, "key_window"),
            ({"max_keys": 1}, "max_keys"),
            ({"grace": 0.5}, "grace"),
            ({"namespace": "{a}"}, "namespace"),
            ({"url": "http://example.org"}, "no URL of Redis"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, options: dict[str, object], what: str) -> None:
        """What is wrong with an option is said when the backplane is made, not when it is used."""
        with pytest.raises(ConfigurationError, match=what):
            RedisBackplane(**{"url": "redis://127.0.0.1:1/0", **options})  # type: ignore[arg-type]
