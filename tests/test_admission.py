"""Who is let in to a stream, for how long, and how that ends: the part of the core."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sse_core import ConfigurationError, Event, ForbiddenError, Hub, MemoryBackplane, TopicOptions
from tests.fanout.harness import eventually
from tests.wsgi_client import Client


class Counting(MemoryBackplane):
    """A backplane that notes which topics' history it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.asked: list[str] = []

    def open(self, topics: Sequence[str]) -> None:
        self.opened += topics
        super().open(topics)

    def is_held(self, lease: str) -> bool:
        self.asked.append(lease)
        return super().is_held(lease)


def test_each_topic_is_authorized_before_anything_is_fetched() -> None:
    """One refused topic refuses the stream, replayed or live, finite or not, and the backplane was asked for none of them."""
    backplane = Counting()
    seen: list[tuple[str, object]] = []

    def authorize(topic: str, environ: Mapping[str, Any] | None) -> bool:
        seen.append((topic, environ))
        return not topic.startswith("secret")

    with Hub(backplane, authorize=authorize, topics={"secret/f": TopicOptions(ends=True)}) as hub:
        environ = {"REQUEST_METHOD": "GET", "HTTP_LAST_EVENT_ID": "0-0", "wsgi.multiprocess": False}
        for topics in (["open", "secret"], "secret", "secret/f"):
            with pytest.raises(ForbiddenError, match="secret") as caught:
                hub.subscribe(topics, environ=environ)
            assert caught.value.topic == (topics if isinstance(topics, str) else "secret")
        assert (backplane.opened, backplane.asked) == ([], [])
        assert seen[0] == ("open", environ)

        hub.publish("open", "x")
        client = Client(hub.subscribe("open", last_event_id="0-0"))
        assert [event.data for event in client.read(1)] == ["x"]
        assert backplane.opened == ["open"]


def test_a_run_of_the_request_itself_is_the_views_to_allow() -> None:
    """`Hub.stream` does not ask for its run's name, which nobody can have named in a rule."""
    with Hub(authorize=lambda topic, environ: False) as hub:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.multiprocess": False}
        client = Client(hub.stream(lambda: iter(["item"]), environ))

        assert client.to_end()[0].data == "item"


def test_the_refusal_survives_pickling() -> None:
    """A pool of processes can pass the error on."""
    error = pickle.loads(pickle.dumps(ForbiddenError("a")))

    assert (type(error), error.topic) == (ForbiddenError, "a")


def test_a_stream_ends_at_its_time_and_goes_on_with_the_next(hub: Hub) -> None:
    """The portable path: at ``expires`` it ends softly, and who comes back with the last id has lost nothing."""
    client = Client(hub.subscribe("a", expires=time.time() + 0.2))
    next(client.stream)
    first = hub.publish("a", 1)
    client.to_end()
    hub.publish("a", 2)
    again = Client(hub.subscribe("a", last_event_id=client.parser.last_event_id, expires=time.time() + 3600))

    assert client.parser.retry is not None
    assert 1000 <= client.parser.retry <= 5000
    # Whether the first one came before the end depends on the clock; that nothing is lost does not.
    seen = [] if client.parser.last_event_id != first.id else ["1"]
    assert seen + [event.data for event in again.read(2 - len(seen))] == ["1", "2"]
    eventually(lambda: hub.stats()["streams_ended_expired"] == 1)


@pytest.mark.parametrize("expires", [0.0, -1e300])
def test_a_time_that_is_over_ends_a_stream_at_once(hub: Hub, expires: float) -> None:
    """Whoever's time is over when the stream begins is told to come back, and is sent no event."""
    hub.publish("a", 1)
    client = Client(hub.subscribe("a", expires=expires, last_event_id="0-0"))
    client.to_end()

    eventually(lambda: hub.stats()["streams_ended_expired"] == 1)


@pytest.mark.parametrize("expires", [float("nan"), float("inf")])
def test_a_time_is_a_number(hub: Hub, expires: float) -> None:
    """What is no time is refused when it is given, and not when it should end something."""
    with pytest.raises(ConfigurationError, match="expires"):
        hub.subscribe("a", expires=expires)


def test_streams_are_ended_by_subject_by_credential_and_by_topic(hub: Hub) -> None:
    """Each way ends the streams that it names, softly, and no others."""
    ann1 = Client(hub.subscribe("a", subject="ann", credential="1"))
    ann2 = Client(hub.subscribe("b", subject="ann", credential="2"))
    bob = Client(hub.subscribe(["a", "c"], subject="bob"))
    nobody = Client(hub.subscribe("d"))
    for client in (ann1, ann2, bob, nobody):
        begin(hub, client)

    hub.evict(credential="2")
    ann2.to_end()
    hub.evict(subject="ann")
    ann1.to_end()
    hub.evict(topics=lambda topic: topic == "c")
    bob.to_end()
    assert all(client.parser.retry is not None and client.parser.retry >= 1000 for client in (ann1, ann2, bob))
    eventually(lambda: hub.stats()["streams_ended_revoked"] == 3)
    last = hub.publish("d", 1)

    assert nobody.until(last.id)[-1].data == "1"


def test_what_to_end_is_one_thing(hub: Hub) -> None:
    """Nothing, and two things at once, are no question that has an answer."""
    for wrong in ({}, {"subject": "a", "credential": "b"}):
        with pytest.raises(ConfigurationError, match="exactly one"):
            hub.evict(**wrong)


def test_who_is_refused_between_the_question_and_the_stream_does_not_keep_it(hub: Hub) -> None:
    """A stream whose ``admit`` says no when it begins, though it was let in a moment ago, ends at once, with no event."""
    allowed = True
    hub.publish("a", 1)
    client = Client(hub.subscribe("a", subject="ann", admit=lambda: allowed, last_event_id="0-0"))
    next(client.stream)
    # As another thread would, now that the response has begun: there is no stream yet that it could end.
    allowed = False
    hub.evict(subject="ann")
    client.to_end()

    eventually(lambda: hub.stats()["streams"] == 0)
    assert hub.stats()["streams_ended_expired"] == 1


def test_the_process_itself_can_listen(hub: Hub) -> None:
    """Who follows a topic hears its events in their order, singly published or in batches, beside all streams."""
    heard: list[str | None] = []
    hub.follow("a", lambda event: heard.append(event.data), lambda: None)
    hub.publish("a", 1)
    hub.publish("b", 2)
    hub.publish_many([("a", Event("3")), ("b", Event("4")), ("a", Event("5"))])

    assert heard == ["1", "3", "5"]


def begin(hub: Hub, client: Client) -> None:
    """Make the stream one of the engine: take its opening bytes, and wait for an event to come."""
    next(client.stream)
    topic = client.stream.topics[0]
    receipt = hub.publish(topic, "begin", event="begin")
    # The connection is made by the iteration that follows the opening bytes.
    client.until(receipt.id)
