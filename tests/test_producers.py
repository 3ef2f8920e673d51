"""The runs of a hub: who may begin one, who comes back to one, and what becomes of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from sse_core import (
    BackplaneError,
    ConfigurationError,
    ConflictError,
    Event,
    Hub,
    HubClosedError,
    LimitError,
    MemoryBackplane,
    MultiprocessError,
    TopicError,
    TopicOptions,
)
from tests.fanout.harness import TIMEOUT, eventually
from tests.wsgi_client import Client, waiting


def environ(path: str = "/answer", query: str = "prompt=hi", last: str | None = None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, **more}
    return made if last is None else {**made, "HTTP_LAST_EVENT_ID": last}


class TestBeginning:
    def test_a_name_that_nobody_can_guess(self, hub: Hub) -> None:
        """Without a topic each run has one of its own, of 128 random bits."""
        topics = {hub.produce(iter(["x"])).topic for _ in range(20)}

        assert len(topics) == 20
        assert all(topic.startswith("run/") and len(topic) >= 4 + 22 for topic in topics)

    def test_a_topic_is_produced_once(self, hub: Hub, gate: threading.Event) -> None:
        """A second run on the same topic is refused while the first goes on and as long as anything of it is left."""
        producer = hub.produce(waiting(gate), topic="run/mine")
        with pytest.raises(ConflictError):
            hub.produce(iter(["y"]), topic="run/mine")
        gate.set()
        producer.wait(TIMEOUT)
        eventually(lambda: hub.producing == 0)
        with pytest.raises(ConflictError):
            hub.produce(iter(["y"]), topic="run/mine")

        assert hub.stats()["producers_started"] == 1

    def test_a_topic_must_have_an_end(self) -> None:
        """Only finite topics can be produced: by the rule for run/*, or by the application's own."""
        with Hub(topics={"answer/*": TopicOptions(ends=True)}) as hub:
            with pytest.raises(ConfigurationError, match="ends=True"):
                hub.produce(iter(["x"]), topic="news")
            with pytest.raises(TopicError):
                hub.produce(iter(["x"]), topic="run/\n")

            assert hub.produce(iter(["x"]), topic="answer/1").wait(TIMEOUT)

    def test_the_bound_on_runs(self, gate: threading.Event) -> None:
        """One more than `max_producers` is refused and counted; when one has ended there is room again."""
        with Hub(max_producers=2) as hub:
            first = hub.produce(waiting(gate))
            hub.produce(waiting(gate))
            with pytest.raises(LimitError) as caught:
                hub.produce(waiting(gate))
            gate.set()
            first.wait(TIMEOUT)
            eventually(lambda: hub.producing < 2)

            assert (caught.value.limit, caught.value.value) == ("max_producers", 2)
            assert hub.stats()["producers_refused"] == 1
            assert hub.produce(iter(["x"])).wait(TIMEOUT)

    def test_a_stopped_generator_counts_until_it_has_come_back(self, gate: threading.Event) -> None:
        """The bound is one on threads, so a run whose generator hangs takes its place even when it is over."""
        with Hub(max_producers=1) as hub:
            producer = hub.produce(waiting(gate))
            producer.stop()
            with pytest.raises(LimitError):
                hub.produce(iter(["x"]))
            gate.set()
            eventually(lambda: hub.producing == 0)

    def test_there_must_be_room_for_its_topic(self) -> None:
        """Where there can be no further topic no run begins: nobody could be told anything of it."""
        with Hub(max_topics=1) as hub:
            hub.publish("news", "x")
            with pytest.raises(LimitError) as caught:
                hub.produce(lambda: pytest.fail("it is made"))

            assert caught.value.limit == "max_topics"
            assert hub.producing == 0

    @pytest.mark.parametrize("spare", [0, 1])
    def test_there_must_be_room_for_its_thread(self, hub: Hub, spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there can be no further thread no run begins, and another time the same one can."""
        start = threading.Thread.start
        left = [spare]

        def limited(thread: threading.Thread) -> None:
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", limited)
            with pytest.raises(LimitError):
                hub.produce(iter(["x"]), topic="run/mine")
        assert hub.producing == 0

        assert hub.produce(iter(["x"]), topic="run/mine").wait(TIMEOUT)

    def test_nothing_begins_where_all_is_ending(self, hub: Hub) -> None:
        """A hub that drains or is closed takes no new run."""
        hub.drain(0)
        with pytest.raises(HubClosedError):
            hub.produce(iter(["x"]))
        hub.close()
        with pytest.raises(HubClosedError):
            hub.progress()

    def test_several_processes_need_a_backplane(self, hub: Hub) -> None:
        """A run in the memory of one of several processes could not be found again."""
        with pytest.raises(MultiprocessError):
            hub.stream(lambda: iter(["x"]), environ(**{"wsgi.multiprocess": True}))


class TestComingBack:
    def test_a_reload_is_shown_all_of_it(self, hub: Hub, gate: threading.Event) -> None:
        """A stream without an id begins at the first event, and goes on live."""
        producer = hub.produce(waiting(gate, "a", "b"))
        first = Client(hub.subscribe(producer.topic))
        assert [event.data for event in first.read(2)] == ["a", "b"]
        first.leave()
        second = Client(hub.subscribe(producer.topic))
        assert [event.data for event in second.read(2)] == ["a", "b"]
        gate.set()

        assert second.to_end()[0].data == "last"
        assert b"id: " not in second.raw[: second.raw.index(b"data: a")].split(b"\n\n")[0]

    def test_a_reconnect_goes_on_where_it_was(self, hub: Hub, gate: threading.Event) -> None:
        """A stream with an id gets what came after it, once."""
        producer = hub.produce(waiting(gate, "a", "b", "c"))
        ids = [event.id for event in Client(hub.subscribe(producer.topic)).read(3)]
        gate.set()
        back = Client(hub.subscribe(producer.topic, last_event_id=ids[1]))

        assert [event.data for event in back.to_end()][:2] == ["c", "last"]

    def test_who_has_seen_the_end_is_told_that_it_is_over(self, hub: Hub) -> None:
        """The id of the last event is answered by 204, which ends an EventSource for good; any earlier one is not."""
        producer = hub.produce(iter(["a", "b"]))
        events = Client(hub.subscribe(producer.topic)).to_end()
        answers = [hub.subscribe(producer.topic, last_event_id=event.id) for event in events]

        assert [answer.status for answer in answers] == ["200 OK", "200 OK", "204 No Content"]
        assert [len(Client(answer).to_end()) for answer in answers] == [2, 1, 0]
        assert answers[-1].headers == [("Cache-Control", "no-cache, no-store")]

    def test_what_is_forgotten_is_over(self) -> None:
        """When nothing is left of a run, and nobody works on it, a client that comes back is told that it is over."""
        with Hub(topics={"run/*": TopicOptions(ends=True, history_age=0.001)}) as hub:
            producer = hub.produce(iter(["a"]))
            last = Client(hub.subscribe(producer.topic)).to_end()[-1].id
            hub.publish("other", "x")
            # The sweep of finite topics that have ended and aged.
            eventually(lambda: producer.topic not in hub.topics())

            assert hub.subscribe(producer.topic, last_event_id=last).over
            assert hub.production(producer.topic) is None

    def test_a_run_of_a_process_that_is_gone_was_interrupted(self, hub: Hub) -> None:
        """A client that comes back to a memory that knows nothing of its run is told so, and the next time it is over."""
        with Hub() as before:
            topic = before.produce(iter(["a", "b"])).topic
            seen = Client(before.subscribe(topic)).read(1)[0].id
        back = Client(hub.subscribe(topic, last_event_id=seen)).to_end()

        assert [event.event for event in back] == ["failed"]
        assert json.loads(back[0].data or "")["reason"] == "interrupted"
        assert hub.subscribe(topic, last_event_id=back[0].id).over

    def test_names_that_never_were_are_not_kept(self, hub: Hub) -> None:
        """Anybody can come back to any name with an id of long ago: it is answered, and nothing stays of it."""
        for number in range(100):
            name = f"run/made-up-{number}"
            assert Client(hub.subscribe(name, last_event_id="1000-0")).to_end()[0].event == "failed"

        assert hub.topics() == {}

    def test_a_topic_among_others_is_no_end(self, hub: Hub) -> None:
        """A stream that also listens to a topic without an end is never over, and begins at the horizon as ever."""
        producer = hub.produce(iter(["a"]))
        last = Client(hub.subscribe(producer.topic)).to_end()[-1].id
        mixed = hub.subscribe([producer.topic, "news"], last_event_id=last)
        fresh = hub.subscribe([producer.topic, "news"])
        hub.publish("news", "n")

        assert not mixed.over
        assert fresh.fresh
        assert Client(mixed).read(1)[0].data == "n"

    def test_head_asks_nothing_of_anybody(self, hub: Hub) -> None:
        """A HEAD request for a run gets the head of a stream."""
        stream = hub.subscribe("run/unknown", environ=environ(REQUEST_METHOD="HEAD"))

        assert (stream.status, list(stream)) == ("200 OK", [])


class TestStream:
    def test_one_request_s_generator_resumes(self, hub: Hub, gate: threading.Event) -> None:
        """A reconnect to the same path and query goes on with the same run; the generator ran once."""
        first = Client(hub.stream(waiting(gate, "a", "b"), environ()))
        ids = [event.id for event in first.read(2)]
        first.leave()
        gate.set()
        second = hub.stream(lambda: pytest.fail("it is made again"), environ(last=ids[0]))
        events = Client(second).to_end()

        assert [event.data for event in events[:2]] == ["b", "last"]
        assert hub.stream(lambda: pytest.fail("it is made again"), environ(last=events[-1].id)).over
        assert hub.stats()["producers_started"] == 1

    def test_two_of_the_same_request_are_two_runs(self, hub: Hub, gate: threading.Event) -> None:
        """Two tabs that ask the same have a run each, and each comes back to its own."""
        clients = [Client(hub.stream(waiting(gate, f"{name} 1", f"{name} 2"), environ())) for name in "ab"]
        ids = [client.read(2)[0].id for client in clients]
        back = [Client(hub.stream(lambda: iter(["new"]), environ(last=last))).read(1)[0].data for last in ids]

        assert back == ["a 2", "b 2"]

    def test_a_new_question_is_a_new_run(self, hub: Hub) -> None:
        """Without an id the generator runs anew, however often the same was asked before."""
        for _ in range(3):
            assert Client(hub.stream(lambda: iter(["x"]), environ())).to_end()[0].data == "x"

        assert hub.stats()["producers_started"] == 3

    @pytest.mark.parametrize(
        "other",
        [{"path": "/other"}, {"query": "prompt=other"}, {"REQUEST_METHOD": "POST"}, {"SCRIPT_NAME": "/mounted"}],
    )
    def test_another_request_s_id_is_none_of_this_one(self, hub: Hub, other: dict[str, str]) -> None:
        """An id that belongs to another request is not answered with that one's stream, nor by running anew."""
        seen = Client(hub.stream(lambda: iter(["secret", "more"]), environ())).read(1)[0].id
        stream = hub.stream(lambda: pytest.fail("it is made"), environ(**other, last=seen))

        assert stream.over
        assert hub.stats()["producers_started"] == 1

    def test_nobody_resumes_another_one_s_stream(self, hub: Hub) -> None:
        """With a subject the same request of somebody else is another one."""
        seen = Client(hub.stream(lambda: iter(["secret", "more"]), environ(), subject="alice")).read(1)[0].id
        theirs = Client(hub.stream(lambda: iter(["x"]), environ(last=seen), subject="bob")).to_end()
        own = Client(hub.stream(lambda: iter(["x"]), environ(last=seen), subject="alice")).to_end()

        assert "more" not in [event.data for event in theirs]
        assert own[0].data == "more"

    def test_the_order_of_parameters_does_not_matter(self, hub: Hub) -> None:
        """The parameter last_event_id, and the order of the others, do not make another request."""
        seen = Client(hub.stream(lambda: iter(["a", "b"]), environ(query="x=1&y=2"))).read(1)[0].id
        back = hub.stream(lambda: iter(["new"]), environ(query=f"y=2&last_event_id={seen}&x=1"))

        assert Client(back).read(1)[0].data == "b"

    def test_nothing_is_run_for_a_stream_without_room(self) -> None:
        """Where no stream is taken the generator is not begun, and the client is told to come back."""
        with Hub(max_streams=1) as hub:
            hub.publish("a", "x")
            first = Client(hub.subscribe("a", last_event_id="0-0"))
            first.read(1)
            sent_away = Client(hub.stream(lambda: pytest.fail("it is made"), environ()))

            assert sent_away.to_end() == []
            assert sent_away.raw.startswith(b"retry: ")
            assert hub.stats()["producers_started"] == 0
            assert hub.stats()["streams_refused"] == 1

    def test_an_answer_that_is_lost_is_not_given_twice(self, hub: Hub) -> None:
        """An id of a run that nobody knows any more is told as interrupted, and then that it is over."""
        events = Client(hub.stream(lambda: pytest.fail("it is made"), environ(last="1000-0"))).to_end()

        assert json.loads(events[-1].data or "")["reason"] == "interrupted"
        assert hub.stream(lambda: pytest.fail("it is made"), environ(last=events[-1].id)).over

    def test_an_id_that_is_none_begins_anew(self, hub: Hub) -> None:
        """What is no id of anybody's says nothing about a run."""
        events = Client(hub.stream(lambda: iter(["x"]), environ(last="nonsense"))).to_end()

        assert "x" in [event.data for event in events]

    def test_head_produces_nothing(self, hub: Hub) -> None:
        """A HEAD request makes no generator."""
        assert list(hub.stream(lambda: pytest.fail("it is made"), environ(REQUEST_METHOD="HEAD"))) == []
        assert hub.stats()["producers_started"] == 0


class TestState:
    def test_what_is_known_of_a_run(self, hub: Hub, gate: threading.Event) -> None:
        """A run is running until it has ended; what never was is None."""
        assert hub.production("run/never") is None
        producer = hub.produce(waiting(gate))
        assert hub.production(producer.topic) == "running"
        gate.set()
        producer.wait(TIMEOUT)

        assert hub.production(producer.topic) == "ended"

    def test_what_does_not_run_cannot_be_stopped(self, hub: Hub) -> None:
        """Stopping what never was, or has ended, is no error and does nothing."""
        producer = hub.produce(iter(["x"]))
        producer.wait(TIMEOUT)

        assert not hub.stop("run/never")
        assert not hub.stop(producer.topic)
        assert Client(hub.subscribe(producer.topic)).to_end()[-1].event == "done"


class TestAfterTheEnd:
    def test_nobody_is_sent_what_comes_after_the_end(self, hub: Hub) -> None:
        """Events after the last one are counted and go to nobody, however they come and whoever comes late."""
        topic = hub.produce(iter(["a"])).topic
        events = Client(hub.subscribe(topic)).to_end()
        last = hub.publish(topic, "late").id
        hub.publish_many([(topic, Event("later")), ("news", Event("n")), ("run/other", Event("{}", event="done"))])
        hub.publish_many([("run/third", Event("{}", event="failed")), ("run/third", Event("late", event="done"))])
        late = Client(hub.subscribe(topic)).to_end()

        assert [event.id for event in late] == [event.id for event in events]
        assert [event.event for event in Client(hub.subscribe("run/third")).to_end()] == ["failed"]
        assert [hub.production(name) for name in (topic, "run/other", "run/third")] == ["ended"] * 3
        assert hub.stats()["events_after_end"] == 3
        # Ids of what was dropped are ids of the feed all the same.
        assert Client(hub.subscribe("news", last_event_id=last)).read(1)[0].data == "n"

    def test_a_stop_and_a_last_item_at_once(self, hub: Hub) -> None:
        """Whoever ends a run first, its streams see one last event and nothing behind it."""
        for _ in range(50):
            go = threading.Barrier(2)

            def generator(go: threading.Barrier = go) -> Iterator[str]:
                go.wait(TIMEOUT)
                yield "x"

            producer = hub.produce(generator)
            go.wait(TIMEOUT)
            hub.stop(producer.topic)
            events = [event.event for event in Client(hub.subscribe(producer.topic)).to_end()]

            assert events in (["done"], [None, "done"])


class Reports(MemoryBackplane):
    """A backplane that is away when it is first asked who listens, and knows of nobody then; and that tells of leases."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.held: list[str] = []
        self.remembered: list[str] = []
        self.before_renewal: Callable[[], object] = lambda: None

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        self.asked += 1
        if self.asked == 1:
            raise BackplaneError(0.01, "away")
        return dict.fromkeys(topics or (), 0)

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        if lease in self.held:
            self.before_renewal()
        self.held.append(lease)
        return super().hold(lease, seconds, note)

    def remember(self, name: str, text: str, seconds: float) -> None:
        self.remembered.append(text)
        super().remember(name, text, seconds)


class TestKeeping:
    def test_a_request_is_remembered_as_long_as_it_is_answered(self, gate: threading.Event) -> None:
        """An answer may take longer than anything is kept, or have no end: its client comes back to it all the same."""
        backplane = Reports()
        with Hub(backplane) as hub:
            topic = hub.stream(waiting(gate), environ()).topics[0]
            eventually(lambda: backplane.remembered == [topic] * 2)
            gate.set()

    def test_an_outage_is_nobody_s_absence(self, gate: threading.Event) -> None:
        """While nobody can say who listens no time passes that counts; and who listens here needs no report."""
        backplane = Reports()
        with Hub(backplane) as hub:
            alone = hub.produce(waiting(gate), abandon_after=3)
            heard = hub.produce(waiting(gate, "a"), abandon_after=0)
            client = Client(hub.subscribe(heard.topic))
            assert client.read(1)[0].data == "a"
            eventually(lambda: backplane.asked == 2)

            assert alone.running
            assert heard.running
            gate.set()

    def test_a_lease_is_not_renewed_beyond_the_end(self, gate: threading.Event) -> None:
        """A run that ends while its lease is being renewed leaves none: it would be taken for running for ever."""
        backplane = Reports()
        with Hub(backplane) as hub:
            producer = hub.produce(waiting(gate))
            ended = threading.Event()

            def end() -> None:
                gate.set()
                eventually(lambda: hub.producing == 0)
                ended.set()

            backplane.before_renewal = end
            assert ended.wait(TIMEOUT)

            eventually(lambda: not backplane.is_held(f"producer/{producer.topic}"))

    def test_one_that_waits_costs_no_other_its_lease(self, gate: threading.Event) -> None:
        """A job that waits for its listeners, with its last state, keeps nobody from looking after other runs."""
        backplane = Reports()
        with Hub(backplane, ahead_bytes=1) as hub:
            progress = hub.progress(abandon_after=60)
            for _ in range(3):
                # Nobody has been sent what the first one told, and no step of a job waits for that.
                progress.update()
            finishing = threading.Thread(target=progress.finish)
            finishing.start()
            eventually(lambda: hub.stats()["producers_waited"] == 1)
            other = f"producer/{hub.produce(waiting(gate)).topic}"
            eventually(lambda: backplane.held.count(other) == 2)
            gate.set()
            told = Client(hub.subscribe(progress.topic)).to_end()
            finishing.join(TIMEOUT)

        assert [json.loads(event.data or "").get("n") for event in told] == [1, 3, None]
