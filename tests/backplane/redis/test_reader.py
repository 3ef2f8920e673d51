"""What a process listens to, and what it makes of what it hears."""

from __future__ import annotations

import pytest
import redis

from sse_core import Event, TopicOptions
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import PUBLISH
from tests.backplane.redis.hubs import MakeHub, listen, spublish
from tests.fanout.harness import eventually


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


class TestHostile:
    """Redis is shared with others, and not all of them do it right."""

    def publish_raw(self, client: redis.Redis, names: Names, *data: bytes) -> list[str]:
        """Publish a batch as another program may, with bytes that the script does not look into."""
        arguments: list[object] = ["", 60000, 1000]
        for each in data:
            arguments += ["a", 1000, 3600000, "", "", "", "", each]
        reply = PUBLISH.run(client, names.clock, arguments)
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
