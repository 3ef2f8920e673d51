"""The backplane in memory: ids in order, idempotency keys, all or none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import pytest

from sse_core import BusyError, Event, HubClosedError, MemoryBackplane
from sse_core.ids import parse_id


class Receiver:
    """A hub that only notes what it is given, and can be told that it has no room."""

    def __init__(self) -> None:
        self.items: list[tuple[str, int, Event]] = []
        self.room = True

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        return self.deliver_many([(topic, number, event)])

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        if self.room:
            self.items += items
        return self.room


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in milliseconds, in a list of one, as the backplane reads it."""
    now = [1_700_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: now[0] * 1_000_000)
    return now


def test_ids_grow_from_any_number_of_threads(receiver: Receiver) -> None:
    """Ids are given in the very order in which events are delivered, whoever publishes."""
    backplane = MemoryBackplane()
    born = backplane.start(receiver).born
    event = Event("x")
    threads = [threading.Thread(target=lambda: [backplane.publish("a", event) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [number for _, number, _ in receiver.items]

    assert len(numbers) == 4000
    assert all(before < after for before, after in zip([born, *numbers], numbers, strict=False))


def test_ids_carry_the_time(receiver: Receiver, clock: list[int]) -> None:
    """The milliseconds of an id are the clock's, and events of one millisecond differ in the sequence."""
    backplane = MemoryBackplane(mark=7)
    backplane.start(receiver)
    clock[0] += 5

    assert [backplane.publish("a", Event("x")).id for _ in range(2)] == ["1700000000005-7", "1700000000005-1031"]


def test_a_clock_set_back_gives_no_id_twice(receiver: Receiver, clock: list[int]) -> None:
    """Ids go on growing when the clock does not."""
    backplane = MemoryBackplane()
    backplane.start(receiver)
    clock[0] += 1000
    first = parse_id(backplane.publish("a", Event("x")).id)
    clock[0] -= 500
    second = parse_id(backplane.publish("a", Event("x")).id)

    assert first is not None
    assert second == first + 1024


def test_feeds_know_their_own_ids(clock: list[int]) -> None:
    """Two processes give ids from the same clock, and each can tell the other's, whichever came first."""
    feeds = [(MemoryBackplane(mark=mark), Receiver()) for mark in (5, 1023)]
    for backplane, receiver in feeds:
        backplane.start(receiver)
    for _ in range(50):
        for backplane, _ in feeds:
            backplane.publish_many([("a", Event("x")), ("a", Event("y"))])
        clock[0] += 1
    given = [{number for _, number, _ in receiver.items} for _, receiver in feeds]

    assert not given[0] & given[1]
    for backplane, own, other in ((feeds[0][0], *given), (feeds[1][0], *reversed(given))):
        assert all(backplane.gave(number) for number in own)
        assert not any(backplane.gave(number) for number in other)


def test_workers_of_one_server_have_marks_of_their_own(receiver: Receiver) -> None:
    """The mark is by pid, so a worker that takes another's place differs from it."""
    backplane = MemoryBackplane()
    own = backplane.start(receiver).born
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(backplane.start(receiver).born).encode())
        os._exit(0)
    os.waitpid(child, 0)
    other = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)

    assert backplane.gave(own)
    assert not backplane.gave(other)


def test_a_key_gives_the_same_event_again(receiver: Receiver) -> None:
    """Publishing with a key that was used returns the first event's id and publishes nothing."""
    backplane = MemoryBackplane()
    backplane.start(receiver)
    first = backplane.publish("a", Event("x", id="key"))
    again = backplane.publish("b", Event("y", id="key"))

    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.id == first.id
    assert len(receiver.items) == 1
    assert backplane.stats()["duplicates"] == 1


def test_a_key_is_forgotten_after_its_window(receiver: Receiver, clock: list[int]) -> None:
    """After the window the same key is a new event."""
    backplane = MemoryBackplane(key_window=10)
    backplane.start(receiver)
    backplane.publish("a", Event("x", id="key"))
    clock[0] += 9_000

    assert backplane.publish("a", Event("x", id="key")).duplicate

    clock[0] += 2_000

    assert not backplane.publish("a", Event("x", id="key")).duplicate
    assert backplane.stats()["keys"] == 1


def test_keys_are_bounded(receiver: Receiver) -> None:
    """Beyond the bound the oldest keys go early, and that is counted."""
    backplane = MemoryBackplane(max_keys=10)
    backplane.start(receiver)
    for i in range(15):
        backplane.publish("a", Event("x", id=str(i)))

    assert backplane.stats() == {"keys": 10, "keys_evicted": 5, "duplicates": 0}
    assert backplane.publish("a", Event("x", id="14")).duplicate
    assert not backplane.publish("a", Event("x", id="0")).duplicate


def test_a_batch_is_all_or_none(receiver: Receiver) -> None:
    """Where there is no room nothing of a batch is published, and its keys are free for the retry."""
    backplane = MemoryBackplane()
    backplane.start(receiver)
    batch = [("a", Event(str(i), id=f"key {i}")) for i in range(3)]
    receiver.room = False
    with pytest.raises(BusyError):
        backplane.publish_many(batch)
    with pytest.raises(BusyError):
        backplane.publish("a", Event("x", id="key 0"))
    receiver.room = True
    receipts = backplane.publish_many(batch)

    assert [receipt.duplicate for receipt in receipts] == [False] * 3
    assert [event.data for _, _, event in receiver.items] == ["0", "1", "2"]


def test_a_key_twice_in_a_batch_is_one_event(receiver: Receiver) -> None:
    """Duplicates within a batch, and of what came before it, get the first event's receipt."""
    backplane = MemoryBackplane()
    backplane.start(receiver)
    first = backplane.publish("a", Event("x", id="old"))
    receipts = backplane.publish_many(
        [("a", Event("1", id="k")), ("a", Event("2", id="old")), ("a", Event("3", id="k")), ("a", Event("4"))]
    )

    assert [receipt.duplicate for receipt in receipts] == [False, True, True, False]
    assert receipts[1].id == first.id
    assert receipts[2].id == receipts[0].id
    assert [event.data for _, _, event in receiver.items] == ["x", "1", "4"]


def test_a_closed_backplane_says_so(receiver: Receiver) -> None:
    """After close nothing is published, and nothing is pretended."""
    backplane = MemoryBackplane()
    backplane.start(receiver)
    backplane.close()

    with pytest.raises(HubClosedError):
        backplane.publish("a", Event("x"))
