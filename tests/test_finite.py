"""What one process knows of topics that end."""

from __future__ import annotations

import pytest

from sse_core import Event
from sse_core.finite import FiniteTopics

A = Event("a")
DONE = Event("{}", event="done")


@pytest.fixture
def topics() -> FiniteTopics:
    made = FiniteTopics()
    made.open("run/1")
    return made


def test_the_first_last_event_is_the_end(topics: FiniteTopics) -> None:
    """A topic ends with the first event named `done` or `failed`, and not before."""
    assert [topics.end("run/1"), topics.newest("run/1")] == [0, 0]
    assert not topics.note("run/1", 5, A, 10)
    assert topics.unended == {"run/1"}
    assert topics.note("run/1", 7, Event("{}", event="failed"), 10)

    assert [topics.end("run/1"), topics.newest("run/1")] == [7, 7]
    assert topics.unended == set()
    assert topics.end("news") == 0


def test_ids_are_exact_and_bounded(topics: FiniteTopics) -> None:
    """An id is known if an event has it; of a long topic those that its history can still hold, and not many more."""
    for number in range(10, 10_010, 10):
        topics.note("run/1", number, A, 100)

    assert topics.has("run/1", 10_000)
    assert topics.has("run/1", 9_010)
    assert not topics.has("run/1", 9_995)
    assert not topics.has("run/1", 10)
    assert not topics.has("run/2", 10_000)
    assert len(topics.ids["run/1"]) <= 200


def test_what_comes_after_the_end_is_left_out(topics: FiniteTopics) -> None:
    """In a batch, whatever the order of topics, nothing of a topic is left behind its end; others lose nothing."""
    topics.open("run/2")
    topics.note("run/2", 1, DONE, 10)
    batch = [
        ("news", 2, DONE),
        ("run/1", 3, A),
        ("run/2", 4, A),
        ("run/1", 5, DONE),
        ("run/1", 6, DONE),
        ("news", 7, A),
    ]

    assert [number for _, number, _ in topics.until_end(batch)] == [2, 3, 5, 7]


def test_what_was_lost_is_known_to_have_begun(topics: FiniteTopics) -> None:
    """When its history is gone a topic has not ended, but it has begun, if it had; and the gap's id is one of its ids."""
    topics.note("run/1", 5, DONE, 10)
    topics.open("run/2")
    for topic in ("run/1", "run/2", "news"):
        topics.forget(topic, 9)

    assert [topics.newest(topic) for topic in ("run/1", "run/2", "news")] == [9, 0, 0]
    assert topics.end("run/1") == 0
    assert topics.has("run/1", 9)
    assert topics.unended == {"run/1", "run/2"}
    topics.lose("run/1", 3)
    topics.lose("run/2", 3)
    topics.lose("news", 3)
    assert [topics.newest(topic) for topic in ("run/1", "run/2", "news")] == [9, 3, 0]


def test_all_that_have_ended_have_their_turn(topics: FiniteTopics) -> None:
    """However few are asked for at once, each topic that has ended comes before any comes again."""
    names = [f"run/{number}" for number in range(7)]
    for name in names:
        topics.open(name)
        topics.note(name, 1, DONE, 10)

    assert topics.some_ended(3) + topics.some_ended(3) + topics.some_ended(1) == names
    assert topics.some_ended(3) == names[:3]


def test_a_closed_topic_leaves_nothing(topics: FiniteTopics) -> None:
    """Of a topic that is closed nothing is kept, and closing one that has no end is no error."""
    topics.note("run/1", 5, DONE, 10)
    topics.close("run/1")
    topics.close("news")

    assert (topics.ids, topics.ends, topics.unended) == ({}, {}, set())
