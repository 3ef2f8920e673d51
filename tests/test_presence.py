"""Presence: who has streams on a topic, until they end."""

from __future__ import annotations

import tracemalloc

import pytest

from sse_core import ConfigurationError, Hub
from sse_core.admission import Admission
from sse_core.presence import Presence
from tests.fanout.harness import eventually
from tests.wsgi_client import Client


def test_each_topic_of_a_stream_is_counted_once_and_taken_back() -> None:
    """A subject is counted on all topics of its streams, and is gone with the last of them."""
    presence = Presence()
    assert not presence
    presence.enter(1, Admission("alice"), ["a", "b"])
    presence.enter(2, Admission("alice"), ["a"])
    assert presence.counts() == {("a", "alice"): 2, ("b", "alice"): 1}

    presence.leave(1)
    presence.leave(1)
    presence.leave(7)
    assert presence.counts() == {("a", "alice"): 1}
    presence.leave(2)
    assert presence.counts() == {}
    assert not presence


def test_streams_are_found_by_who_they_are() -> None:
    """The streams of a subject and those of a credential are found, and not after they have ended."""
    presence = Presence()
    presence.enter(1, Admission("alice", credential="c1"), ["a"])
    presence.enter(2, Admission("alice", credential="c2"), ["a"])
    presence.enter(3, Admission(None, credential="c2"), ["b"])
    assert presence.find(subject="alice") == [1, 2]
    assert presence.find(credential="c2") == [2, 3]
    assert presence.counts() == {("a", "alice"): 2}

    presence.leave(2)
    assert presence.find(credential="c2") == [3]
    assert presence.find(credential="alice") == []


def test_what_is_known_of_a_stream_takes_little_memory() -> None:
    """Subject and credential of a stream, and its topic, which only it has, take less than 512 bytes."""
    presence = Presence()
    count = 20_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        # As they come from a request: strings of their own.
        admission = Admission(f"user-{number:08}", 1e9 + number, f"{number:032x}")
        presence.enter(number, admission, [f"user/{number}"])
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert taken / count < 512


@pytest.mark.parametrize("subject", [5, b"alice", "\ud800"])
def test_a_subject_is_text(subject: object) -> None:
    """A subject that could not be told to other processes is refused."""
    with pytest.raises(ConfigurationError, match="subject"):
        Admission(subject).check()  # type: ignore[arg-type]


def test_who_is_on_a_topic_is_known_until_the_stream_ends() -> None:
    """A stream opened with a subject is present on its topics; one without is nobody."""
    with Hub() as hub:
        clients = [Client(hub.subscribe("a", subject=subject)) for subject in ("alice", "alice", "bob", None)]
        for client in clients:
            next(client.stream)
        hub.publish("a", "x")
        for client in clients:
            client.read(1)
        assert hub.presence("a") == {"alice": 2, "bob": 1}

        clients[0].stream.close()
        clients[2].stream.close()
        eventually(lambda: hub.presence("a") == {"alice": 1})
        assert hub.presence("b") == {}


def test_presence_does_not_take_the_ends_from_who_asks_for_them() -> None:
    """Both presence and `ended` hear of every stream that ends."""
    with Hub() as hub:
        assert hub.ended() == []
        client = Client(hub.subscribe("a", subject="alice"))
        next(client.stream)
        hub.publish("a", "x")
        client.read(1)
        client.stream.close()
        eventually(lambda: hub.presence("a") == {})

        assert [(end.number, end.reason, end.subject) for end in hub.ended()] == [(1, "client", "alice")]
