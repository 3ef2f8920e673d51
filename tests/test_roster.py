"""The roster: who has streams on a topic, and what streams count for, until they end."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core import ConfigurationError, Hub
from sse_core.admission import ANYBODY, Admission
from sse_core.roster import Roster
from sse_core.stream import EventStream
from tests.fanout.harness import eventually
from tests.wsgi_client import Client


def test_each_topic_of_a_stream_is_counted_once_and_taken_back() -> None:
    """A subject is counted on all topics of its streams, and is gone with the last of them."""
    roster = Roster()
    assert not roster
    roster.enter(1, Admission("alice"), ["a", "b"], {})
    roster.enter(2, Admission("alice"), ["a"], {})
    assert roster.presence() == {("a", "alice"): 2, ("b", "alice"): 1}

    assert roster.leave(1) == "alice"
    assert roster.leave(1) is None
    assert roster.leave(7) is None
    assert roster.presence() == {("a", "alice"): 1}
    assert roster.leave(2) == "alice"
    assert roster.presence() == {}
    assert not roster


def test_streams_are_found_by_who_they_are() -> None:
    """The streams of a subject and those of a credential are found, and not after they have ended."""
    roster = Roster()
    roster.enter(1, Admission("alice", credential="c1"), ["a"], {"x": 5})
    roster.enter(2, Admission("alice", credential="c2"), ["a"], {})
    roster.enter(3, Admission(None, credential="c2"), ["b"], {"x": 5, "y": 5})
    roster.enter(4, Admission("alic"), ["ea"], {})
    assert sorted(roster.find(subject="alice")) == [1, 2]
    assert sorted(roster.find(credential="c2")) == [2, 3]
    assert roster.presence() == {("a", "alice"): 2, ("ea", "alic"): 1}
    assert roster.presence("a") == {("a", "alice"): 2}
    assert roster.presence("alice") == roster.presence("\ud800") == {}

    assert roster.leave(2) == "alice"
    assert roster.leave(3) is None
    assert roster.find(credential="c2") == []
    assert roster.find(credential="alice") == []
    assert roster.find(subject="") == roster.find(subject="\ud800") == []


def test_a_quota_is_full_at_its_bound() -> None:
    """There is room for the last one, and none for one more; who leaves makes room, however often that is said."""
    roster = Roster()
    both = {"a": 2, "b": 5}
    roster.enter(1, ANYBODY, ["t"], both)
    assert roster.full(both) is None
    roster.enter(2, ANYBODY, ["t"], both)
    assert roster.full(both) == "a"
    assert roster.full({"b": 5}) is None
    assert (roster.streams("a"), roster.streams("b"), roster.streams("c")) == (2, 2, 0)

    roster.leave(1)
    roster.leave(1)
    roster.leave(7)
    assert roster.full(both) is None
    assert (roster.streams("a"), roster.streams("b")) == (1, 1)
    roster.leave(2)
    assert roster.streams("a") == 0
    assert not roster


def test_a_stream_that_does_not_begin_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that the engine does not take leaves no count behind, and is still the caller's."""
    with Hub(retry=None) as hub:
        stream = hub.subscribe("a", subject="alice")
        stream.quotas = {"x": 1}
        assert hub.open_stream(stream) is not None
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            with monkeypatch.context() as patch:
                patch.setattr(hub._local, "engine", _Refusing(hub._local.engine))
                with pytest.raises(MemoryError):
                    hub.adopt(stream, theirs)
            assert theirs.fileno() > 0
            assert hub.full({"x": 1}) is None
            assert hub.presence("a") == {}


class _Refusing:
    """An engine that has no memory for one stream more."""

    def __init__(self, engine: object) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def adopt(self, *args: object) -> None:
        raise MemoryError


def test_one_of_whom_nothing_is_known_is_not_kept() -> None:
    """An anonymous stream without quotas takes no place."""
    roster = Roster()
    roster.enter(1, ANYBODY, ["a"], {})
    assert not roster
    assert roster.leave(1) is None


NAMES = st.text(max_size=3)
TOPICS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=4)
ADMISSIONS = st.builds(Admission, subject=st.none() | NAMES, credential=st.none() | NAMES)


@given(
    st.lists(st.tuples(ADMISSIONS, st.lists(TOPICS, min_size=1, max_size=3, unique=True), st.sets(NAMES)), max_size=30),
    st.sets(st.integers(1, 30)),
)
def test_a_roster_says_what_a_list_of_streams_would(
    streams: list[tuple[Admission, list[str], set[str]]], gone: set[int]
) -> None:
    """However streams come and go, subjects, credentials and quotas are those of the streams that are left."""
    roster = Roster()
    for number, (admission, topics, quotas) in enumerate(streams, start=1):
        roster.enter(number, admission, topics, dict.fromkeys(quotas, 1))
    left = dict(enumerate(streams, start=1))
    for number in gone:
        ended = left.pop(number, None)
        assert roster.leave(number) == (None if ended is None else ended[0].subject)
    present = Counter(
        (topic, admission.subject)
        for admission, topics, _ in left.values()
        for topic in topics
        if admission.subject is not None
    )
    assert roster.presence() == present
    for topic in {topic for _, topics, _ in streams for topic in topics}:
        assert roster.presence(topic) == {key: count for key, count in present.items() if key[0] == topic}
    taken = Counter(name for *_, quotas in left.values() for name in quotas)
    for admission, _, quotas in streams:
        for name in quotas:
            assert roster.streams(name) == taken[name]
        if admission.subject is not None:
            same = [number for number, (each, *_) in left.items() if each.subject == admission.subject]
            assert sorted(roster.find(subject=admission.subject)) == same
        if admission.credential is not None:
            same = [number for number, (each, *_) in left.items() if each.credential == admission.credential]
            assert sorted(roster.find(credential=admission.credential)) == same


@given(st.lists(st.tuples(ADMISSIONS, st.lists(TOPICS, min_size=1, max_size=2, unique=True)), max_size=30), st.data())
def test_changes_lead_from_what_was_to_what_is(streams: list[tuple[Admission, list[str]]], data: st.DataObject) -> None:
    """Whoever asks for changes now and then knows the presence, whenever the first time was."""
    roster, known, numbers = Roster(), dict[tuple[str, str], int](), set[int]()
    asks = False
    for number, (admission, topics) in enumerate(streams, start=1):
        roster.enter(number, admission, topics, {})
        numbers.add(number)
        if data.draw(st.booleans()):
            roster.leave(gone := data.draw(st.sampled_from(sorted(numbers))))
            numbers.remove(gone)
        if data.draw(st.booleans()):
            known |= roster.changes()
            asks = True
    known |= roster.changes()
    assert {key: count for key, count in known.items() if count} == roster.presence()
    assert roster.changes() == {}
    assert asks or all(known.values())


class _Allocated(ctypes.Structure):
    """struct mallinfo2, mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def test_what_is_known_of_a_stream_takes_little_memory() -> None:
    """Subject, address, credential and topics of streams that have nothing in common take less than 256 bytes each.

    In a process that has done nothing else, since what malloc has given out is counted.
    """
    script = f"""
import ctypes
from {__name__} import _Allocated
from sse_core.admission import Admission
from sse_core.roster import Roster

tell = ctypes.CDLL(None).mallinfo2
tell.restype = _Allocated
def held():
    told = tell()
    return told.uordblks + told.hblkhd
def enter(number):
    admission = Admission(f"user-{{number:08}}", 1e9 + number, f"{{number:032x}}")
    quotas = {{f"address 10.1.{{number >> 8}}.{{number & 255}}": 9, f"subject user-{{number:08}}": 9}}
    roster.enter(number, admission, [f"user/{{number}}"], quotas)
roster, count = Roster(), 20_000
enter(1)
before = held()
for number in range(2, count):
    enter(number)
taken = held() - before
for number in range(2, count):
    roster.leave(number)
print(taken / count, (held() - before) / count)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    full, empty = map(float, told.split())
    assert 64 < full < 256
    assert empty < 4


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


@pytest.fixture
def hub() -> Hub:
    return Hub(retry=None)


def opened(hub: Hub, quotas: dict[str, int]) -> EventStream:
    """A stream whose opening was sent, by the portable path."""
    stream = hub.subscribe("a")
    stream.quotas = quotas
    next(stream)
    return stream


def test_streams_count_until_they_end(hub: Hub) -> None:
    """A stream counts while it is open; how it ends is of no matter."""
    with closing(hub):
        streams = [opened(hub, {"x": 2}) for _ in range(2)]
        hub.publish("a", "1")
        for stream in streams:
            next(stream)
        assert hub.full({"x": 2}) == "x"
        assert hub.full({"x": 3}) is None
        assert hub.full({"y": 1}) is None
        streams[0].close()
        eventually(lambda: hub.full({"x": 2}) is None)
        streams[1].close()
        eventually(lambda: hub.full({"x": 1}) is None)


def test_one_that_comes_too_late_ends_after_its_opening(hub: Hub) -> None:
    """Of several that begin at the same time only so many stay; for the others the answer ends, and they come back."""
    with closing(hub):
        streams = [opened(hub, {"x": 3}) for _ in range(5)]
        hub.publish("a", "1")
        received = [b"".join([next(stream, b"")]) for stream in streams]

        assert [bool(chunk) for chunk in received] == [True, True, True, False, False]
        assert hub.streams == 3
        assert hub.stats()["quota_refused"] == 2
        for stream in streams:
            stream.close()


def test_many_that_end_at_once_are_all_counted_off(hub: Hub) -> None:
    """However many streams end before anybody looks, none of them is counted for ever."""
    with closing(hub):
        streams = [opened(hub, {"x": 10_000}) for _ in range(400)]
        hub.publish("a", "1")
        for stream in streams:
            next(stream)
        for stream in streams:
            stream.close()
        eventually(lambda: hub.streams == 0)

        assert hub.full({"x": 1}) is None
