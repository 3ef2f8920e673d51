"""Hubs that Redis joins: one order and exact resume, whichever of them publishes and whichever serves."""

from __future__ import annotations

import os
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from sse_core import BackplaneError, ConfigurationError, Event, EventError, Hub, RedisBackplane, TopicOptions
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import PUBLISH
from tests.fanout.harness import Subscriber, eventually
from tests.redisserver import RedisServer, redis_server

MakeHub = Callable[..., Hub]


@pytest.fixture
def make(server: RedisServer, names: Names) -> Iterator[MakeHub]:
    """Makes hubs of one namespace, each as in a process of its own; all are closed at the end."""
    made: list[Hub] = []

    def make_hub(*, grace: float = 60.0, timeout: float = 5.0, url: str = server.unix_url, **options: object) -> Hub:
        backplane = RedisBackplane(url, namespace=names.namespace, grace=grace, timeout=timeout)
        made.append(Hub(backplane, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_hub
    for hub in made:
        hub.close()


def listen(hub: Hub, topics: str | list[str] = "a", last_event_id: str | None = None, **options: Any) -> Subscriber:
    """A stream that has begun, as a server that hands connections over begins it."""
    stream = hub.subscribe(topics, last_event_id=last_event_id, **options)
    opening = hub.open_stream(stream)
    assert opening is not None, "sent away"
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    hub.adopt(stream, theirs)
    subscriber = Subscriber(ours)
    subscriber.parser.feed(opening)
    return subscriber


def read_some(subscriber: Subscriber, count: int) -> None:
    """Read until there are so many events, or nothing comes for a moment."""
    subscriber.socket.settimeout(0.2)
    with suppress(TimeoutError):
        while len(subscriber.events) < count:
            subscriber.receive()


def spublish(client: redis.Redis, channel: bytes, message: bytes) -> None:
    """Publish a message on a channel, past the script."""
    client.execute_command("SPUBLISH", channel, message)  # type: ignore[no-untyped-call]


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


class TestResume:
    """A stream goes on exactly where it was, on any hub."""

    def test_another_process_resumes_exactly(self, make: MakeHub) -> None:
        """History of several topics and what comes live after it are one stream without hole or duplicate."""
        one = make()
        ids = [one.publish("ab"[n % 2], str(n)).id for n in range(20)]
        two = make()
        stream = listen(two, ["a", "b"], ids[4])
        ids.append(one.publish("a", "live").id)
        stream.until(ids[-1])

        assert stream.ids == ids[5:]
        assert stream.gaps == []

    def test_a_topic_taken_up_late_does_not_disturb_the_order(self, make: MakeHub) -> None:
        """A stream of a topic that flows and of one that this process has not had so far sees one order."""
        one, two = make(), make()
        flowing = listen(two, "a")
        ids = [one.publish("ab"[n % 2], str(n)).id for n in range(10)]
        stream = listen(two, ["a", "b"], ids[0])
        ids += [one.publish("ab"[n % 2], str(n)).id for n in range(10)]
        stream.until(ids[-1])
        flowing.until(ids[-2])

        assert stream.ids == ids[1:]

    def test_everything_that_is_left_can_be_asked_for(self, make: MakeHub) -> None:
        """The id 0-0 gives the whole history, without a gap."""
        one = make()
        ids = [one.publish("a", str(n)).id for n in range(5)]
        stream = listen(make(), "a", "0-0")
        stream.until(ids[-1])

        assert stream.ids == ids
        assert stream.gaps == []

    def test_an_id_that_this_process_has_not_reached_is_waited_for(self, make: MakeHub) -> None:
        """A client that heard from a faster process is not told that its id is unknown."""
        one, two = make(), make()
        listen(two, "other")
        ids = [one.publish("a", str(n)).id for n in range(3)]
        stream = listen(two, "a", ids[-1])
        last = one.publish("a", "x").id
        stream.until(last)

        assert stream.ids == [last]
        assert stream.gaps == []

    def test_an_id_of_the_future_is_unknown(self, make: MakeHub) -> None:
        """An id that was never given is a gap, and what there is follows."""
        hub = make()
        first = hub.publish("a", "x").id
        stream = listen(hub, "a", f"{2**43}-0")
        stream.until(first)

        assert [gap["reason"] for gap in stream.gaps] == ["unknown-id"]
        assert stream.ids == [first]

    def test_what_was_trimmed_is_told(self, make: MakeHub) -> None:
        """A client that was away for longer than history reaches is told a gap with the last lost id."""
        rules = {"*": TopicOptions(history_events=10)}
        one = make(topics=rules)
        ids = [one.publish("a", str(n)).id for n in range(300)]
        stream = listen(make(topics=rules), "a", ids[0])
        stream.until(ids[-1])

        assert stream.gaps == [{"topic": "a", "asked": ids[0], "oldest": ids[290], "reason": "trimmed", "id": ids[289]}]
        assert stream.ids == ids[290:]

    def test_a_topic_whose_history_expired_is_a_gap_for_those_who_asked_before(
        self, make: MakeHub, client: redis.Redis, names: Names
    ) -> None:
        """When a topic's keys have expired, an id from before their lifetime is answered by a gap, a later one is not."""
        rules = {"*": TopicOptions(history_age=0.3)}
        one = make(topics=rules)
        old = one.publish("a", "x").id
        eventually(lambda: not client.exists(names.topic("a")), "the expiry of the topic")
        two = make(topics=rules)
        lost, fresh = listen(two, "a", old), listen(two, "a", one.horizon)
        last = one.publish("a", "y").id
        lost.until(last)
        fresh.until(last)

        assert [gap["reason"] for gap in lost.gaps] == ["trimmed"]
        assert fresh.gaps == []

    def test_a_topic_that_was_quiet_for_long_has_no_gap(self, make: MakeHub, client: redis.Redis, names: Names) -> None:
        """An event after the topic's keys have expired is no hole for those who have listened all the time."""
        hub = make(topics={"*": TopicOptions(history_age=0.3)})
        stream = listen(hub)
        first = hub.publish("a", "x").id
        stream.until(first)
        eventually(lambda: not client.exists(names.tail("a")), "the expiry of the topic")
        last = hub.publish("a", "y").id
        stream.until(last)

        assert stream.gaps == []

    def test_a_storm_of_reconnects_asks_redis_for_no_history(self, make: MakeHub, client: redis.Redis) -> None:
        """5,000 streams that resume from ids which the local log covers cost no command for history."""
        hub = make()
        ids = [hub.publish("a", str(n)).id for n in range(50)]
        listen(hub, "a", ids[0]).until(ids[-1])
        client.config_resetstat()
        fetches = hub.stats()["backplane_fetches"]
        for n in range(5000):
            stream = listen(hub, "a", ids[n % 49])
            stream.until(ids[-1])
            stream.socket.close()

        assert hub.stats()["backplane_fetches"] == fetches
        commands = client.info("commandstats")
        assert not {"cmdstat_xrange", "cmdstat_xrevrange", "cmdstat_ssubscribe"} & commands.keys()

    def test_streams_that_come_and_go_under_load_lose_nothing(self, make: MakeHub) -> None:
        """Streams that are cut at random and resume on another hub, while events pour in, get each event once, in order."""
        hubs = [make(grace=1.0), make()]
        topics = ["a", "b", "c"]
        published: list[tuple[str, str]] = []
        done = threading.Event()

        def publish() -> None:
            random_ = random.Random(7)
            for n in range(3000):
                topic = random_.choice(topics)
                published.append((hubs[n % 2].publish(topic, str(n)).id, topic))
            done.set()

        begin = hubs[0].horizon
        thread = threading.Thread(target=publish)
        thread.start()
        random_ = random.Random(8)
        seen: dict[int, list[str | None]] = {}
        wanted = [random_.sample(topics, random_.randint(1, 3)) for _ in range(8)]
        cursors = [begin] * len(wanted)
        gaps = []
        while not done.is_set():
            for number, names in enumerate(wanted):
                stream = listen(random_.choice(hubs), names, cursors[number])
                read_some(stream, random_.randint(1, 40))
                stream.socket.close()
                seen.setdefault(number, []).extend(stream.ids)
                gaps += stream.gaps
                cursors[number] = stream.parser.last_event_id
        thread.join()
        end = hubs[0].publish_many([(topic, Event("end")) for topic in topics])
        published += [(receipt.id, topic) for receipt, topic in zip(end, topics, strict=True)]
        for number, names in enumerate(wanted):
            stream = listen(hubs[number % 2], names, cursors[number])
            stream.until(max((each for each in published if each[1] in names), key=_order)[0])
            seen[number] += stream.ids
            gaps += stream.gaps

        assert gaps == []
        for number, names in enumerate(wanted):
            assert seen[number] == [id for id, topic in sorted(published, key=_order) if topic in names]


def _order(item: tuple[str, str]) -> tuple[int, int]:
    milliseconds, _, sequence = item[0].partition("-")
    return int(milliseconds), int(sequence)


class TestTopics:
    """A process hears of the topics that its streams want, and of no other."""

    def test_a_topic_is_left_after_its_last_stream_and_taken_up_again(
        self, make: MakeHub, client: redis.Redis, names: Names
    ) -> None:
        """After the grace period the subscription ends and the log is freed; who comes back resumes exactly."""
        hub = make(grace=1.0)
        stream = listen(hub)
        first = hub.publish("a", "1").id
        stream.until(first)
        assert client.pubsub_shardnumsub(names.live("a").decode()) == [(names.live("a"), 1)]
        stream.socket.close()
        eventually(
            lambda: client.pubsub_shardnumsub(names.live("a").decode())[0][1] == 0, "the end of the subscription"
        )

        assert hub.topics() == {}
        missed = hub.publish("a", "2").id
        stream = listen(hub, "a", first)
        stream.until(missed)
        assert stream.ids == [missed]

    def test_a_topic_with_a_stream_is_not_left(self, make: MakeHub) -> None:
        """Silence is no reason to leave a topic."""
        hub = make(grace=1.0)
        stay, go = listen(hub, "stay"), listen(hub, "go")
        go.socket.close()
        eventually(lambda: list(hub.topics()) == ["stay"], "leaving the other topic")
        last = hub.publish("stay", "x").id

        assert len(stay.until(last)) == 1

    def test_ten_thousand_topics_in_one_process(self, make: MakeHub, client: redis.Redis) -> None:
        """10,000 topics over 100 streams are subscribed by one connection, and each delivers."""
        hub, other = make(), make()
        names = [[f"t{stream}/{n}" for n in range(100)] for stream in range(100)]
        streams = [listen(hub, topics) for topics in names]
        receipts = [other.publish_many([(topics[n], Event(str(n))) for n in range(0, 100, 33)]) for topics in names]
        for stream, receipt in zip(streams, receipts, strict=True):
            stream.until(receipt[-1].id)

        assert all(len(stream.ids) == 4 for stream in streams)
        assert len(hub.topics()) == 10_000
        # The other hub has a connection, too, for its namespace's clock.
        assert len(client.client_list(_type="pubsub")) == 2

    def test_more_topics_than_a_process_may_have_are_refused_softly(self, make: MakeHub) -> None:
        """A stream for which there is no topic left is sent away with a time to come back, and the rest goes on."""
        hub = make(max_topics=1)
        stream = listen(hub, "a")
        refused = list(hub.subscribe("b"))
        last = hub.publish("a", "x").id
        stream.until(last)

        assert [chunk.startswith(b"retry: ") for chunk in refused] == [True]
        assert hub.stats()["topics_refused"] == 1

    def test_idle_topics_make_room_for_others(self, make: MakeHub) -> None:
        """At the bound on topics those that nobody listens to any more are left before their time."""
        hub = make(max_topics=2)
        streams = [listen(hub, topic) for topic in ("a", "b")]
        streams[0].socket.close()
        eventually(lambda: hub.topics()["a"]["streams"] == 0, "the end of the stream")

        def comes() -> bool:
            opening = hub.open_stream(hub.subscribe("c"))
            return opening is not None

        eventually(comes, "room for the topic")
        assert sorted(hub.topics()) == ["b", "c"]

    def test_more_history_than_fits_into_the_mailbox_is_served(self, make: MakeHub) -> None:
        """A topic's history may be larger than what is on its way to a loop at once."""
        rules = {"*": TopicOptions(history_bytes=1 << 20)}
        one = make(topics=rules)
        ids = [one.publish("a", "x" * 30_000).id for _ in range(20)]
        two = make(topics=rules, mailbox_bytes=100_000, max_event_bytes=50_000)
        stream, other = listen(two, "a", "0-0"), listen(two, "b")
        stream.until(ids[-1])
        last = one.publish("b", "y").id
        other.until(last)

        assert stream.ids == ids

    def test_more_than_fits_into_the_mailbox_is_caught_up_with(self, make: MakeHub, client: redis.Redis) -> None:
        """What came while the connection was lost is delivered, however much it is."""
        one = make()
        two = make(mailbox_bytes=100_000, max_event_bytes=50_000)
        topics = [f"t{n}" for n in range(8)]
        stream = listen(two, topics)
        client.client_kill_filter(_type="pubsub")
        ids = [receipt.id for topic in topics for receipt in one.publish_many([(topic, Event("x" * 30_000))] * 2)]
        stream.until(ids[-1])

        assert stream.ids == ids


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


class TestHostile:
    """Redis is shared with others, and not all of them do it right."""

    def publish_raw(self, client: redis.Redis, names: Names, *data: bytes) -> list[str]:
        """Publish a batch as another program may, with bytes that the script does not look into."""
        arguments: list[object] = ["", 60000, 1000]
        for each in data:
            arguments += ["a", 1000, 3600000, "", "", "", "", each]
        reply = PUBLISH.run(client, names.clock, arguments)  # type: ignore[arg-type]
        return [id.decode() for id in reply[::2]]

    def test_an_event_that_is_no_text_is_told_and_the_rest_of_its_batch_delivered(
        self, make: MakeHub, client: redis.Redis, names: Names
    ) -> None:
        """What cannot be sent is a gap, up to that event; what follows in the same message arrives."""
        hub = make()
        stream = listen(hub)
        _, bad, good = self.publish_raw(client, names, b"one", b"\xff\xfe", b"three")
        stream.until(good)

        assert [gap["id"] for gap in stream.gaps] == [bad]
        assert stream.ids == [good]
        assert hub.stats()["backplane_undeliverable"] == 1

    def test_who_comes_back_with_the_gap_s_id_gets_nothing_twice(
        self, make: MakeHub, client: redis.Redis, names: Names
    ) -> None:
        """The id of a gap is one that the process knows, at once and for all topics of the stream."""
        hub = make()
        stream = listen(hub, ["a", "b"])
        ids = [hub.publish("b", str(n)).id for n in range(5)]
        stream.until(ids[-1])
        (bad,) = self.publish_raw(client, names, b"\xff")
        stream.until(bad)
        again = listen(hub, ["a", "b"], bad)
        last = hub.publish("b", "last").id
        again.until(last)

        assert again.ids == [last]
        assert again.gaps == []

    @pytest.mark.parametrize("event", ["x\ndata: forged", "x\r", "\xff"])
    def test_a_forged_message_is_not_delivered(
        self, make: MakeHub, client: redis.Redis, names: Names, event: str
    ) -> None:
        """A message that would inject fields, and was never stored, reaches nobody; the stream goes on."""
        hub = make()
        stream = listen(hub)
        first = hub.publish("a", "x").id
        milliseconds, _, _ = first.partition("-")
        name = event.encode("latin-1")
        line = b"%d-7 %b %d - - 1\n" % (int(milliseconds) + 1, first.encode(), len(name))
        spublish(client, names.live("a"), line + name + b"x")
        last = hub.publish("a", "y").id
        stream.until(last)

        assert stream.ids == [first, last]
        assert hub.stats()["backplane_undeliverable"] == 1

    def test_rubbish_on_a_channel_does_no_harm(self, make: MakeHub, client: redis.Redis, names: Names) -> None:
        """A message that is none makes the process look into the history, and the next event arrives."""
        hub = make()
        stream = listen(hub)
        for rubbish in (b"", b"\xff\x00", b"1-1", b"no id at all\n"):
            spublish(client, names.live("a"), rubbish)
        last = hub.publish("a", "x").id
        stream.until(last)

        assert stream.ids == [last]


class TestAway:
    """Redis is not always there."""

    def test_nothing_works_without_redis_and_everything_after(self, tmp_path: Path) -> None:
        """A hub that starts before Redis answers softly, says that it is not ready, and then works."""
        with redis_server(tmp_path) as server:
            server.stop()
            with Hub(RedisBackplane(server.unix_url, timeout=0.5)) as hub:
                assert not hub.is_ready()
                assert b"".join(hub.subscribe("a")).startswith(b"retry: ")
                with pytest.raises(BackplaneError) as caught:
                    hub.publish("a", "x")
                assert caught.value.retry_after > 0

                server.start()
                eventually(hub.is_ready, "readiness")
                stream = listen(hub)
                assert len(stream.until(hub.publish("a", "x").id)) == 1

    def test_a_redis_that_hangs_holds_one_thread_and_not_all(self, tmp_path: Path) -> None:
        """While a hub's first call waits for a server that does not answer, others are told to come back, softly."""
        with redis_server(tmp_path) as server, Hub(RedisBackplane(server.url, timeout=5.0)) as hub:
            server.pause()
            answers: queue.Queue[str] = queue.Queue()

            def publish() -> None:
                with pytest.raises(BackplaneError) as caught:
                    hub.publish("a", "x")
                answers.put(str(caught.value))

            threads = [threading.Thread(target=publish) for _ in range(2)]
            for thread in threads:
                thread.start()
            assert "is being connected" in answers.get(timeout=10)
            assert b"".join(hub.subscribe("a")).startswith(b"retry: ")
            assert hub.stats()["streams"] == 0
            assert answers.empty(), "the other one waits still"

            for thread in threads:
                thread.join()
            server.resume()
            eventually(hub.is_ready, "readiness")

    def test_an_open_stream_survives_a_restart_of_redis(self, tmp_path: Path) -> None:
        """While Redis is away streams stay open and the log answers; what is published afterwards arrives once, in order."""
        with redis_server(tmp_path, aof=True) as server, Hub(RedisBackplane(server.unix_url, timeout=0.5)) as hub:
            stream = listen(hub)
            ids = [hub.publish("a", str(n)).id for n in range(5)]
            stream.until(ids[-1])
            server.kill()
            eventually(lambda: not hub.is_ready(), "noticing it")
            resumed = listen(hub, "a", ids[1])
            resumed.until(ids[-1])
            assert resumed.ids == ids[2:]
            assert b"".join(hub.subscribe("unheard-of")).startswith(b"retry: ")

            server.start()
            eventually(hub.is_ready, "readiness")
            ids.append(hub.publish("a", "after").id)
            stream.until(ids[-1])
            resumed.until(ids[-1])
            assert stream.ids == ids
            assert (stream.gaps, resumed.gaps) == ([], [])

    def test_an_emptied_redis_is_told_in_band(self, make: MakeHub, client: redis.Redis) -> None:
        """When Redis has lost everything, open streams get a gap with the reason restart, and then what comes."""
        hub = make()
        stream = listen(hub)
        first = hub.publish("a", "x").id
        stream.until(first)
        client.flushall()
        # Its beat founds the namespace anew.
        eventually(lambda: hub.stats()["backplane_restarts"] == 1, "noticing it")
        last = hub.publish("a", "y").id
        stream.until(last)

        assert [(gap["reason"], gap["asked"]) for gap in stream.gaps] == [("restart", first)]
        assert stream.ids == [first, last]

    def test_a_lost_subscription_loses_nothing(self, make: MakeHub, client: redis.Redis) -> None:
        """A subscriber connection that is killed again and again while events pour in loses none and repeats none."""
        hub, other = make(), make()
        stream = listen(hub)
        ids = []
        for n in range(300):
            ids.append(other.publish("a", str(n)).id)
            if n % 60 == 30:
                client.client_kill_filter(_type="pubsub")
        stream.until(ids[-1])

        assert stream.ids == ids
        assert stream.gaps == []
        assert hub.stats()["backplane_reconnects"] >= 1

    def test_a_publish_whose_connection_breaks_is_one_event(self, make: MakeHub, client: redis.Redis) -> None:
        """Calls are repeated under a key of their own, so that a lost answer does not become a second event."""
        hub = make()
        stream = listen(hub)
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.005):
                client.client_kill_filter(_type="normal", skipme=True)

        thread = threading.Thread(target=kill)
        thread.start()
        receipts = [hub.publish("a", str(n)) for n in range(200)]
        stop.set()
        thread.join()
        stream.until(receipts[-1].id)

        assert [event.data for event in stream.events] == [str(n) for n in range(200)]
        assert not any(receipt.duplicate for receipt in receipts)


class TestTogether:
    """What processes know of each other."""

    def test_streams_and_workers_are_counted_over_all_hubs(self, make: MakeHub) -> None:
        """Each hub can say how many streams a topic has anywhere, and how many processes share the namespace."""
        one, two = make(), make()
        streams = [listen(one, "a"), listen(two, ["a", "b"]), listen(two, "b")]
        eventually(lambda: one.audience() == {"a": 2, "b": 2}, "the reports")
        assert two.audience(["a", "none"]) == {"a": 2, "none": 0}
        assert len(one.workers()) == 2

        streams[1].socket.close()
        eventually(lambda: two.audience() == {"a": 1, "b": 1}, "the next reports")
        two.close()
        eventually(lambda: len(one.workers()) == 1 and one.audience() == {"a": 1}, "the worker's leave")

    def test_who_is_on_a_topic_is_known_everywhere(self, make: MakeHub) -> None:
        """Streams opened with a subject make it present on their topics until they end."""
        one, two = make(), make()
        streams = [
            listen(one, "a", subject="alice"),
            listen(two, ["a", "b"], subject="alice"),
            listen(two, "a", subject="bob"),
        ]
        eventually(lambda: one.presence("a") == {"alice": 2, "bob": 1}, "the reports")
        assert one.presence("b") == {"alice": 1}

        streams[2].socket.close()
        eventually(lambda: one.presence("a") == {"alice": 2}, "the next reports")

    def test_a_subject_that_cannot_be_told_is_refused(self, make: MakeHub) -> None:
        """A subject out of a token can be anything; one that is no text stops nobody else."""
        hub = make()
        with pytest.raises(ConfigurationError, match="subject"):
            hub.subscribe("a", subject="\ud800")

        assert hub.publish("a", "x").id

    def test_a_lease_has_one_holder_and_hands_its_note_on(self, make: MakeHub) -> None:
        """A lease is taken by one process, and by another, with the note, when the first does not renew it."""
        first, second = make().lease("tail", seconds=0.5), make().lease("tail", seconds=0.5)
        assert first.hold("line 7")
        assert not second.hold("mine")
        eventually(second.hold, "the lease to run out")

        assert second.note == "line 7"
        assert not first.hold()
        second.release()
        assert first.hold()


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
