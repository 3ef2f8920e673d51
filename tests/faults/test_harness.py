"""The judge of the fault tests is judged: whatever goes wrong on a stream or with a publisher is found, and nothing else."""

from __future__ import annotations

import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from sse_core import Event
from tests.nginx_server import short_folder

from .audience import Audience, EventSource
from .fleet import complaints
from .judge import Records, judge
from .publishers import Post, Publishers
from .scenario import running


def post(topic: str, number: int, event_id: str | None) -> Post:
    """An event that was published before anybody listened, or never answered."""
    return Post(topic, number, f"{topic}-{number}", f"{topic} {number}", started=0.0, id=event_id)


def received(post_: Post, event_id: str | None = None) -> Event:
    """What a stream gets of it."""
    return Event(post_.data, id=event_id or post_.id)


def gap(topic: str, event_id: str) -> Event:
    """A gap up to this id."""
    return Event({"topic": topic, "reason": "restart"}, event="gap", id=event_id)


def stream(*events: Event, after: str = "0-0", topics: Sequence[str] = ("a", "b")) -> EventSource:
    """A stream that has received this."""
    made = EventSource("s", topics)
    made.after, made.primed_at = after, 1.0
    made.received.extend(events)
    return made


A0, B0, A1 = post("a", 0, "1-0"), post("b", 0, "2-0"), post("a", 1, "3-0")
POSTS = [A0, B0, A1]
ALL = [received(each) for each in POSTS]


def kinds(source: EventSource, posts: Sequence[Post] = POSTS, gaps: bool = False, **records: object) -> list[str]:
    """What the judge finds, in its own words."""
    return [finding.kind for finding in judge(Records(posts, [source], **records), gaps=gaps)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (ALL, []),
        ([ALL[0], ALL[2]], ["lost"]),
        ([*ALL, ALL[2]], ["duplicate"]),
        ([ALL[1], ALL[0], ALL[2]], ["disorder"]),
        ([*ALL[:2], Event("a 9", id="3-0")], ["altered"]),
        ([*ALL, Event("nobody's", id="4-0")], ["unknown"]),
        ([*ALL, received(A1, "4-0")], ["published twice"]),
        ([*ALL, gap("a", "4-0")], ["gap (restart) without a loss"]),
    ],
)
def test_each_fault_of_a_stream_is_found(events: list[Event], expected: list[str]) -> None:
    """Loss, duplicates, disorder, changed content and needless gaps are told apart, and a sound stream is not accused."""
    assert kinds(stream(*events)) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (ALL, []),
        ([*ALL, received(post("a", 2, None), "4-0")], []),
        ([*ALL, received(post("a", 2, None), "4-0"), received(post("a", 2, None), "4-0")], ["duplicate"]),
    ],
)
def test_what_was_never_answered_may_arrive_once(events: list[Event], expected: list[str]) -> None:
    """Nobody was promised an event without an answer, so it may be there or not; twice is too often."""
    assert kinds(stream(*events), [*POSTS, post("a", 2, None)]) == expected


HELD = {"a": {3 << 20}, "b": set[int]()}
GAPS = [gap("a", "1-0"), gap("b", "2-0")]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([*GAPS, ALL[2]], []),
        ([ALL[0], gap("a", "1-0"), ALL[1], gap("b", "2-0"), ALL[2]], []),
        ([GAPS[0], ALL[1], ALL[2]], ["not told that something is lost"]),
        ([GAPS[0], *GAPS, ALL[2]], ["told the same gap twice"]),
        ([*GAPS], ["lost"]),
        ([GAPS[1], gap("a", "3-0")], ["lost, and told as a gap without a reason"]),
    ],
)
def test_a_gap_excuses_what_redis_lost_and_nothing_else(events: list[Event], expected: list[str]) -> None:
    """Where Redis lost something every stream is told, once a topic, and gets all that Redis still holds."""
    assert kinds(stream(*events), gaps=True, held=HELD) == expected


def test_what_redis_holds_is_owed_to_all() -> None:
    """An event that was never answered but is in Redis has been published."""
    posts = [post("a", 0, None)]

    assert kinds(stream(), posts, held={"a": {1 << 20}, "b": set()}) == ["lost"]
    assert kinds(stream(received(posts[0], "1-0")), posts, held={"a": {1 << 20}, "b": set()}) == []


def test_a_gap_does_not_excuse_what_was_lost_before_its_cause() -> None:
    """An event that was answered well before Redis lost everything had time to arrive."""
    old = Post("a", 0, "k", "a 0", started=0.0, answered=1.0, id="1-0")
    source = stream(gap("a", "4-0"), gap("b", "4-0"))
    nothing: dict[str, set[int]] = {"a": set(), "b": set()}

    assert kinds(source, [old], gaps=True, held=nothing, sound_until=0.5) == []
    assert kinds(source, [old], gaps=True, held=nothing, sound_until=2.0) == [
        "lost, and told as a gap without a reason"
    ]


def test_what_a_dead_primary_kept_to_itself_is_no_fault() -> None:
    """An event that streams got from a primary that died, and again from the next, is one only if both are in Redis."""
    held = {"a": {1 << 20, 3 << 20}, "b": {2 << 20}}
    events = [*ALL[:2], received(A1, "2-5"), gap("a", "2-6"), ALL[2]]

    assert kinds(stream(*events), held=held) == []
    assert kinds(stream(*events), held={**held, "a": {*held["a"], (2 << 20) + 5}}) == [
        "published twice",
        "gap (restart) without a loss",
    ]


def test_an_answered_event_that_redis_does_not_hold_is_found() -> None:
    """An answer is a promise that the event is kept."""
    assert kinds(stream(*ALL), held=HELD) == ["answered, and not in Redis"] * 2


def test_ids_against_the_order_of_publishing_are_found() -> None:
    """One publisher's next event in a topic has a higher id."""
    posts = [post("a", 0, "2-0"), post("a", 1, "1-0")]

    assert kinds(stream(received(posts[1]), received(posts[0])), posts) == ["published out of order"]


def test_a_stream_that_begins_above_an_event_of_its_future_is_found() -> None:
    """The id that a stream begins after is not made up: what is published later has a higher one."""
    late = Post("a", 0, "k", "a 0", started=2.0, id="5-0")

    assert kinds(stream(after="7-0"), [late]) == ["began above an event of its future"]


def test_answers_that_nobody_should_get_are_found() -> None:
    """A stream that a browser would give up, one that never opened, and a publish that was refused are faults."""
    given_up = stream(*ALL)
    given_up.refused = "HTTP/1.1 500 Internal Server Error\r\n\r\n"

    assert kinds(given_up, refusals=["500 b''"]) == ["refused", "refused"]
    assert kinds(EventSource("s", ["a"]), []) == ["never opened"]


class Deaf(EventSource):
    """Loses its third event, over and over, until it comes back from its first disconnect."""

    def read(self) -> bool:
        is_open = super().read()
        if len(self.received) > 2 and not self.disconnects:
            del self.received[2]
        return is_open


class Forgetful(EventSource):
    """Comes back without the id that it should resume after, when a few events have been published."""

    def delay(self, chance: random.Random) -> float:
        self.cursor = ""
        return 1.0


class Stammering(EventSource):
    """Comes back with the id before the last one, and so asks for an event that it has."""

    def delay(self, chance: random.Random) -> float:
        self.cursor = self.received[-2].id or ""
        return super().delay(chance)


class Absent(EventSource):
    """Stays open and takes nothing more after its third event."""

    def read(self) -> bool:
        return True if len(self.received) > 2 and self.drain() else super().read()

    def drain(self) -> bool:
        assert self._socket is not None
        return bool(self._socket.recv(65536))


def some_of_them(**misfits: type[EventSource]) -> Callable[[str, Sequence[str]], EventSource]:
    """Streams as browsers keep them, but for those with a class of their own."""
    return lambda name, topics: misfits.get(name.replace(" ", "_"), EventSource)(name, topics)


def test_a_client_that_misbehaves_is_caught_by_the_whole_harness() -> None:
    """Against a real server the judge accuses the streams that drop, forget or repeat an event, and no other."""
    source = some_of_them(stream_1=Deaf, stream_3=Forgetful, stream_5=Stammering)
    with running(None, masters=1, workers=1, streams=24, source=source) as scenario:
        assert not scenario.audience.wait(lambda each: len(each.received) > 1, 10.0)
        for each in scenario.audience.streams:
            each.cut()
        scenario.publishers.wait_for(100)
        verdict = scenario.finish()

    accused = {(finding.stream, finding.kind) for finding in verdict.findings}
    assert accused == {("stream 1", "lost"), ("stream 3", "lost"), ("stream 5", "duplicate")}
    assert verdict.disconnects.total() == 24
    with pytest.raises(AssertionError, match="3 findings"):
        verdict.check()


def test_a_stream_that_gets_nothing_any_more_is_noticed() -> None:
    """A connection that is open and silent does not pass for one that has everything."""
    with running(None, masters=1, workers=1, streams=24, source=some_of_them(stream_7=Absent)) as scenario:
        assert not scenario.audience.wait(lambda each: len(each.received) > 2, 10.0)
        verdict = scenario.finish(settle=1.0)

    assert [each.name for each in verdict.behind] == ["stream 7"]
    assert {(finding.stream, finding.kind) for finding in verdict.findings} == {("stream 7", "lost")}
    with pytest.raises(AssertionError, match="1 streams behind"):
        verdict.check()


def test_what_servers_complain_of_is_noticed() -> None:
    """An error in a log and the traceback of a thread are findings; that a worker was killed, the test's doing, is not."""
    log = [
        '{"event": "Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "level": "error"}\n',
        '{"event": "Redis does not answer", "level": "warning"}\n',
        '{"event": "A beat failed.", "level": "error"}\n',
        "Exception in thread sse-redis-heart:\n",
    ]

    assert complaints(log) == ["error: A beat failed.", "Exception in thread sse-redis-heart:"]


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each request the next of these answers, and then hangs up; its address and what it was sent."""
    folder = short_folder()
    requests: list[bytes] = []

    def run() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                while requests[-1].startswith(b"POST") and requests[-1].endswith(b"\r\n\r\n"):
                    requests[-1] += connection.recv(65536)
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield str(folder / "s"), requests
            thread.join(10)
            assert not thread.is_alive(), f"{len(requests)} of {len(answers)} requests came"
        finally:
            listener.close()
            shutil.rmtree(folder)


def test_publishers_repeat_an_event_unchanged_until_it_is_answered() -> None:
    """503 and a connection that breaks mean that nobody knows, so the same key is sent again."""
    body = b'{"id":"5-0","duplicate":true}'
    away = b"HTTP/1.1 503 Away\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
    done = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with (
        answering(away, b"", done) as (address, requests),
        Publishers([address], ["a"], rate=0.01) as publishers,
    ):
        publishers.wait_for(1)
        publishers.stop()

    assert len(set(requests)) == 1
    assert [(each.id, each.attempts) for each in publishers.posts()] == [("5-0", 3)]
    assert publishers.answers == {"503": 1, "RemoteDisconnected": 1, "200": 1}
    assert publishers.retry_after == ["2"]


def test_streams_behave_as_browsers() -> None:
    """A stream resumes with its last id after the time it was told, and gives up for good on any status but 200."""
    stream_head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with (
        answering(stream_head + b"retry: 20\nid: 7-0\n\n", b"HTTP/1.1 500 Oh\r\n\r\n") as (address, requests),
        Audience([address], [("a",)]) as audience,
    ):
        assert not audience.wait(lambda each: each.refused is not None, 10.0)

    assert b"Last-Event-ID" not in requests[0]
    assert b"Last-Event-ID: 7-0\r\n" in requests[1]
    assert [each.reason for each in audience.streams[0].disconnects] == ["end", "refused"]
    assert audience.streams[0].after == "7-0"
