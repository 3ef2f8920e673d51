"""Runs over Redis: begun in one process, read, resumed and stopped in another, and ended for one that died."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from sse_core import BackplaneError, ConflictError, Event, Hub, Receipt, RedisBackplane
from sse_core.backplane.redis import commands
from sse_core.backplane.redis.names import Names
from tests.fanout.harness import TIMEOUT, eventually
from tests.redisserver import RedisServer
from tests.wsgi_client import Client, waiting

Make = Callable[..., Hub]


@pytest.fixture
def make(server: RedisServer, names: Names) -> Iterator[Make]:
    """Hubs of one namespace, each as in a process of its own."""
    hubs: list[Hub] = []

    def made(**options: int) -> Hub:
        hubs.append(Hub(RedisBackplane(server.url, namespace=names.namespace), **options))
        return hubs[-1]

    yield made
    for hub in hubs:
        hub.close()


ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/answer", "QUERY_STRING": "prompt=hi"}


def test_an_answer_goes_on_in_another_process(make: Make, gate: threading.Event) -> None:
    """A client that comes back to another process gets what it missed, the rest live, the end, and then 204."""
    here, there = make(), make()
    first = Client(here.stream(waiting(gate, "a", "b"), ENVIRON))
    seen = first.read(2)[0].id
    first.leave()
    back = Client(there.stream(lambda: iter(["anew"]), {**ENVIRON, "HTTP_LAST_EVENT_ID": seen}))
    assert back.read(1)[0].data == "b"
    gate.set()
    events = back.to_end()

    assert [event.event for event in events] == [None, "done"]
    for hub in (here, there):
        assert hub.stream(lambda: iter(["anew"]), {**ENVIRON, "HTTP_LAST_EVENT_ID": events[-1].id}).over
    assert there.stats()["producers_started"] == 0


def test_a_run_is_stopped_from_another_process(make: Make, gate: threading.Event) -> None:
    """A stop ends the stream at once, wherever it is, and closes the generator in the process that runs it."""
    here, there = make(), make()
    aborted = threading.Event()
    producer = here.produce(waiting(gate, "a"), abort=aborted.set)
    reader = Client(here.subscribe(producer.topic))
    reader.read(1)
    assert there.production(producer.topic) == "running"
    assert there.stop(producer.topic)

    assert json.loads(reader.to_end()[-1].data or "") == {"reason": "stopped"}
    assert aborted.wait(TIMEOUT)
    gate.set()
    eventually(lambda: here.producing == 0)
    assert there.production(producer.topic) == "ended"
    assert not there.stop(producer.topic)


def test_a_topic_is_produced_once_in_all_processes(make: Make, gate: threading.Event) -> None:
    """Two processes that begin the same run: one does, and the other is told."""
    here, there = make(), make()
    here.produce(waiting(gate), topic="run/same")
    with pytest.raises(ConflictError):
        there.produce(waiting(gate), topic="run/same")
    gate.set()
    eventually(lambda: here.production("run/same") == "ended")
    with pytest.raises(ConflictError):
        there.produce(waiting(gate), topic="run/same")


def test_a_run_whose_process_died_ends_as_interrupted(make: Make, client: redis.Redis, names: Names) -> None:
    """When nobody holds a run's lease any more, the processes that have somebody listening end it, by one event."""
    hubs = [make(), make()]
    # What a process leaves behind that is killed: events, and a lease that nobody renews.
    hubs[0].publish("run/left", "a")
    commands.hold_lease(client, names, "producer/run/left", "the dead", 0.5)
    assert hubs[1].production("run/left") == "running"
    clients = [Client(hub.subscribe("run/left")) for hub in hubs for _ in range(2)]
    streams = [client.to_end() for client in clients]

    assert all([event.event for event in events] == [None, "failed"] for events in streams)
    assert len({events[-1].id for events in streams}) == 1
    assert json.loads(streams[0][-1].data or "")["reason"] == "interrupted"
    assert hubs[0].production("run/left") == "ended"


def test_a_reader_in_another_process_holds_up_the_generator(make: Make) -> None:
    """A generator is asked for more only when the slowest reader, in whatever process, has been sent what there is."""
    here, there = make(ahead_bytes=100_000), make()
    made: list[int] = []

    def generator() -> Iterator[str]:
        for number in range(30):
            made.append(number)
            yield "x" * 10_000

    producer = here.produce(generator, abandon_after=60)
    eventually(lambda: here.stats()["producers_waited"] == 1)
    assert len(made) < 20
    events = Client(there.subscribe(producer.topic)).to_end()

    assert len(events) == 31
    assert events[-1].event == "done"


@pytest.fixture
def behind(make: Make) -> Hub:
    """A process that is part of the namespace, and as far behind the others as one without events can be."""
    hub = make()
    hub.production("run/other")
    return hub


def test_what_happened_a_moment_ago_is_known_elsewhere(make: Make, behind: Hub) -> None:
    """A run that has just begun or ended is found by another process, and nobody who has not seen all is told 204."""
    here = make()
    for _ in range(3):
        topic = here.produce(iter(["a", "b"])).topic
        ids = [event.id for event in Client(here.subscribe(topic)).to_end()]
        assert behind.production(topic) == "ended"

        topic = here.produce(iter(["a", "b"])).topic
        ids = [event.id for event in Client(here.subscribe(topic)).to_end()]
        assert not behind.stop(topic)

        topic = here.produce(iter(["a", "b"])).topic
        ids = [event.id for event in Client(here.subscribe(topic)).to_end()]
        back = behind.subscribe(topic, last_event_id=ids[0])
        assert not back.over
        assert [event.id for event in Client(back).to_end()] == ids[1:]
        assert behind.subscribe(topic, last_event_id=ids[-1]).over


def test_a_client_that_comes_back_elsewhere_at_once(make: Make, behind: Hub, gate: threading.Event) -> None:
    """A request that comes back a moment after its run has begun goes on with it, in a process that is behind."""
    here = make()
    came_back = []
    for _ in range(5):
        seen = Client(here.stream(waiting(gate, "a", "b"), ENVIRON)).read(1)[0].id
        came_back.append(Client(behind.stream(lambda: iter(["anew"]), {**ENVIRON, "HTTP_LAST_EVENT_ID": seen})))
        assert came_back[-1].read(1)[0].data == "b"
    gate.set()

    assert all(back.to_end()[-1].event == "done" for back in came_back)


def test_a_run_that_has_just_ended_is_not_produced_again(make: Make, behind: Hub) -> None:
    """However short a run was: a process that is behind does not produce it once more."""
    here = make()
    for number in range(5):
        topic = f"run/{number}"
        here.produce(iter(()), topic=topic)
        eventually(lambda: here.producing == 0)
        with pytest.raises(ConflictError):
            behind.produce(iter(["again"]), topic=topic)


def test_what_comes_after_the_end_reaches_nobody(make: Make, gate: threading.Event) -> None:
    """A process that slept through the end of its run publishes more: nobody is sent that, now or later."""
    here, there, late = make(), make(), make()
    producer = here.produce(waiting(gate, "a"))
    client = Client(there.subscribe(producer.topic))
    client.read(1)
    assert there.stop(producer.topic)
    last = client.to_end()[-1].id
    here.publish_many([(producer.topic, Event("b")), ("news", Event("n")), (producer.topic, Event("{}", event="done"))])
    events = Client(late.subscribe(producer.topic)).to_end()

    assert [event.data for event in events] == ["a", '{"reason":"stopped"}']
    assert events[-1].id == last
    assert late.subscribe(producer.topic, last_event_id=last).over
    eventually(lambda: [hub.stats()["events_after_end"] for hub in (there, late)] == [2, 2])
    assert there.production(producer.topic) == "ended"


def test_a_run_outlives_a_redis_that_forgot_everything(make: Make, client: redis.Redis, gate: threading.Event) -> None:
    """Its owner goes on, and a client that comes back meanwhile, when nobody holds a lease, is not told that it is gone."""
    here, there = make(), make()
    producer = here.produce(waiting(gate, "a"))
    seen = Client(here.subscribe(producer.topic)).read(1)[0].id
    assert there.production("run/other") is None
    client.flushall()
    eventually(lambda: all(hub.stats()["backplane_restarts"] == 1 for hub in (here, there)))
    client.delete(*client.keys("*lease*"), "none")
    back = Client(there.subscribe(producer.topic, last_event_id=seen))
    assert back.read(1)[0].event == "gap"
    gate.set()

    assert [event.data for event in back.to_end()] == ["last", '{"reason":"finished"}']


def test_a_run_that_is_lost_with_its_redis_was_interrupted(make: Make, client: redis.Redis) -> None:
    """A run of which neither Redis nor a process knows anything any more is not taken for one that never began."""
    hub = make()
    hub.publish("run/left", "a")
    listening = Client(hub.subscribe("run/left"))
    listening.read(1)
    client.flushall()

    assert listening.read(1)[0].event == "gap"
    assert hub.production("run/left") == "interrupted"
    assert hub.stop("run/left")
    assert [event.event for event in listening.to_end()] == ["done"]


class Losing(RedisBackplane):
    """Does what it is asked to, and loses every second answer."""

    lost = False

    def publish(self, topic: str, event: Event, *, attempt: str | None = None) -> Receipt:
        receipt = super().publish(topic, event, attempt=attempt)
        self.lost = not self.lost
        if self.lost:
            raise BackplaneError(0.01, "the answer was lost")
        return receipt


def test_what_was_published_unheard_is_published_once(server: RedisServer, names: Names) -> None:
    """A run whose answers from Redis are lost has every item once, in order, and takes no key of an application's."""
    with Hub(Losing(server.url, namespace=names.namespace)) as hub:
        events = Client(hub.subscribe(hub.produce(str(number) for number in range(5)).topic)).to_end()

        assert [event.data for event in events[:-1]] == list("01234")
        assert events[-1].event == "done"
        assert server.client().hlen(names.keys) == 1


def test_a_run_leaves_no_lease(make: Make, client: redis.Redis, names: Names) -> None:
    """There may have been very many: nothing of one that has ended stays in Redis but its history."""
    hub = make()
    topics = [hub.produce(iter(["x"])).topic for _ in range(5)]
    eventually(lambda: hub.producing == 0)

    assert client.exists(*(names.lease(f"producer/{topic}") for topic in topics)) == 0


def test_what_is_remembered_is_bounded(make: Make, client: redis.Redis, names: Names) -> None:
    """Of the same request the last 1000 runs are known, the newest first, and the key expires."""
    for number in range(1010):
        commands.remember(client, names, "request", f"run/{number}", 60)
    commands.remember(client, names, "request", "run/1008", 60)

    found = commands.recall(client, names, "request")
    assert found[:3] == ["run/1008", "run/1009", "run/1007"]
    assert len(found) == len(set(found)) == 1000
    assert 0 < client.pttl(names.texts("request")) <= 60_000
    assert commands.recall(client, names, "other") == []


def test_many_that_ask_the_same_come_back_to_their_own(make: Make, gate: threading.Event) -> None:
    """However many runs of one request are under way: each client comes back to its own, in whatever process."""
    here, there = make(max_producers=30), make()
    streams = [Client(here.stream(waiting(gate, f"{number} a", f"{number} b"), ENVIRON)) for number in range(30)]
    seen = [stream.read(1)[0].id for stream in streams]
    back = [Client(there.stream(lambda: iter(["anew"]), {**ENVIRON, "HTTP_LAST_EVENT_ID": last})) for last in seen]

    assert [stream.read(1)[0].data for stream in back] == [f"{number} b" for number in range(30)]
    assert there.stats()["producers_started"] == 0


def test_leases_tell_whether_they_are_held(client: redis.Redis, names: Names) -> None:
    """A lease is held until it is given back or runs out."""
    assert not commands.is_held(client, names, "l")
    commands.hold_lease(client, names, "l", "me", 60)
    assert commands.is_held(client, names, "l")
    commands.release_lease(client, names, "l", "me")
    assert not commands.is_held(client, names, "l")
    commands.hold_lease(client, names, "l", "me", 0.01)
    eventually(lambda: not commands.is_held(client, names, "l"))


def test_how_far_others_are_is_the_least_of_them(client: redis.Redis, names: Names) -> None:
    """Of each topic the least id that a worker has told counts, without one's own, and it goes with the worker."""
    for worker, sent in (("a", {"run/1": 5}), ("b", {"run/1": 3, "run/2": 9}), ("me", {"run/1": 1})):
        commands.report(client, names, worker, {}, {}, whole=True, seconds=10)
        commands.report_sent(client, names, worker, sent, seconds=10)

    assert commands.sent(client, names, ["run/1", "run/2", "run/3"], but="me") == {"run/1": 3, "run/2": 9}
    commands.leave(client, names, "b")
    assert commands.sent(client, names, ["run/1", "run/2"], but="me") == {"run/1": 5}
    commands.report_sent(client, names, "a", {}, seconds=10)
    assert commands.sent(client, names, ["run/1"], but="me") == {}
