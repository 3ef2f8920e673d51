"""Exact resume over several processes."""

from __future__ import annotations

import random
import threading

import redis

from sse_core import Event, TopicOptions
from sse_core.backplane.redis.names import Names
from tests.backplane.redis.hubs import MakeHub, listen, read_some
from tests.fanout.harness import eventually


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
