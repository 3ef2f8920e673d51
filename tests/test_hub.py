"""The hub: publish, subscribe, bounds, numbers, and life across forks and restarts."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sse_core import (
    BusyError,
    ConfigurationError,
    Event,
    EventError,
    EventStream,
    Hub,
    HubClosedError,
    LimitError,
    MemoryBackplane,
    MultiprocessError,
    TopicError,
    TopicOptions,
)
from tests.fanout.harness import eventually
from tests.wsgi_client import Client


def data(events: list[Event]) -> list[str | None]:
    return [event.data for event in events]


def test_what_is_published_arrives(hub: Hub) -> None:
    """A subscriber gets text, JSON and named events, with the id that the publisher was told."""
    client = Client(hub.subscribe("a"))
    next(client.stream)
    receipts = [
        hub.publish("a", "text"),
        hub.publish("a", {"k": [1, "ü"]}, event="named"),
        hub.publish("a", Event("e")),
    ]
    events = client.read(3)

    assert data(events) == ["text", '{"k":[1,"ü"]}', "e"]
    assert [event.event for event in events] == [None, "named", None]
    assert [event.id for event in events] == [receipt.id for receipt in receipts]


def test_a_batch_arrives_in_order(hub: Hub) -> None:
    """A batch over several topics is one run of ids, in the order of the batch."""
    client = Client(hub.subscribe(["a", "b"], last_event_id="0-0"))
    receipts = hub.publish_many([("ab"[i % 2], Event(str(i))) for i in range(100)])

    assert data(client.read(100)) == [str(i) for i in range(100)]
    assert client.parser.last_event_id == receipts[-1].id
    assert hub.publish_many([]) == []


def test_a_fresh_stream_is_told_the_horizon_first(hub: Hub) -> None:
    """The opening bytes are the reconnection time and an id without an event: even a silent stream resumes exactly."""
    receipt = hub.publish("other", "x")

    assert next(hub.subscribe("a")) == f"retry: 2000\nid: {receipt.id}\n\n".encode()
    assert next(hub.subscribe("a", last_event_id=receipt.id)) == b"retry: 2000\n\n"


def test_a_hub_without_retry_still_opens() -> None:
    """Where clients keep their own reconnection time a resumed stream opens with a comment."""
    with Hub(retry=None) as hub:
        assert next(hub.subscribe("a", last_event_id="0-0")) == b":\n\n"


def test_nothing_falls_between_the_opening_bytes_and_the_engine(hub: Hub) -> None:
    """Events published after the head was made but before the connection was adopted are delivered."""
    client = Client(hub.subscribe("a"))
    next(client.stream)
    between = hub.publish("a", "between")

    assert client.until(between.id) == [Event("between", id=between.id)]


def test_what_is_no_id_is_a_gap(hub: Hub) -> None:
    """A malformed Last-Event-ID is answered in band, and what is left follows."""
    hub.publish("a", "kept")
    client = Client(hub.subscribe("a", last_event_id="garbage"))
    gap, kept = client.read(2)

    assert (gap.event, json.loads(gap.data or "")["reason"]) == ("gap", "unknown-id")
    assert kept.data == "kept"


def test_an_id_of_another_feed_is_a_gap_even_if_it_lies_among_ours() -> None:
    """While a worker is replaced two feeds give ids from one clock, and neither takes the other's for its own."""
    with Hub(MemoryBackplane(mark=1)) as old, Hub(MemoryBackplane(mark=2)) as new:
        first = new.publish("a", "1")
        foreign = old.publish("a", "old")
        last = new.publish("a", "2")
        client = Client(new.subscribe("a", last_event_id=foreign.id))
        events = client.until(last.id)
        gap = json.loads(events[0].data or "")

        assert (gap["reason"], gap["asked"], gap["oldest"]) == ("unknown-id", foreign.id, first.id)
        assert data(events[1:]) == ["1", "2"]


def test_the_gap_event_can_be_renamed() -> None:
    """The reserved name is an option."""
    with Hub(gap_event="missed") as hub:
        client = Client(hub.subscribe("a", last_event_id="1-0"))

        assert [event.event for event in client.read(1)] == ["missed"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTP_LAST_EVENT_ID": "5-0"}, "5-0"),
        ({"QUERY_STRING": "topic=a&last_event_id=6-0"}, "6-0"),
        ({"HTTP_LAST_EVENT_ID": "5-0", "QUERY_STRING": "last_event_id=6-0"}, "5-0"),
        ({"HTTP_LAST_EVENT_ID": "", "QUERY_STRING": "last_event_id="}, None),
    ],
)
def test_the_header_beats_the_query(hub: Hub, environ: dict[str, Any], expected: str | None) -> None:
    """The id is the header's, else the query's: a browser that reconnects still has its first URL."""
    stream = hub.subscribe("a", environ=environ)

    assert stream.fresh is (expected is None)
    assert expected is None or stream.after == int(expected[0]) << 20


def test_head_gets_no_body(hub: Hub) -> None:
    """A HEAD request ends after its head, and is no stream."""
    assert list(hub.subscribe("a", environ={"REQUEST_METHOD": "HEAD"})) == []
    assert hub.stats().get("streams_adopted", 0) == 0


def test_topics_of_a_stream_are_checked(hub: Hub) -> None:
    """No topic, too many and bad names are errors before anything is sent; a topic named twice is one."""
    with pytest.raises(ConfigurationError, match="at least one"):
        hub.subscribe([])
    with pytest.raises(LimitError, match="max_stream_topics"):
        hub.subscribe(str(i) for i in range(101))
    assert hub.stats()["stream_topics_refused"] == 1
    with pytest.raises(TopicError):
        hub.subscribe(["a", "b\n"])
    assert hub.subscribe(["a", "a"]).topics == ("a",)


@pytest.mark.parametrize(
    "event", [{"data": None}, {"data": "x", "event": "a\nb"}, {"data": "x", "id": "a\0"}, {"data": float("nan")}]
)
def test_hostile_events_are_refused(hub: Hub, event: dict[str, Any]) -> None:
    """What would inject fields, or would never be dispatched, is an error that names the field."""
    with pytest.raises(EventError) as caught:
        hub.publish("a", **event)
    assert caught.value.field in {"data", "event", "id"}


def test_an_event_brings_its_own_fields(hub: Hub) -> None:
    """An Event and keywords contradict each other."""
    with pytest.raises(TypeError, match="its own"):
        hub.publish("a", Event("x"), event="y")
    with pytest.raises(TypeError, match="items"):
        hub.publish_many([("a", "x")])  # type: ignore[list-item]
    with pytest.raises(TopicError):
        hub.publish("", "x")


def test_an_event_is_bounded() -> None:
    """A framed event above `max_event_bytes` is refused, alone and in a batch, and nothing of the batch is published."""
    with Hub(max_event_bytes=100) as hub:
        with pytest.raises(EventError, match="max_event_bytes is 100"):
            hub.publish("a", "x" * 100)
        with pytest.raises(EventError):
            hub.publish_many([("a", Event("x")), ("a", Event("x" * 100))])
        assert hub.stats()["events_refused"] == 2
        client = Client(hub.subscribe("a", last_event_id="0-0"))
        hub.publish("a", "fits")

        assert data(client.read(1)) == ["fits"]


def test_a_full_mailbox_is_an_error_to_the_publisher() -> None:
    """What does not fit now is refused with a time to wait; what can never fit is refused for good."""
    with Hub(mailbox_bytes=4096, max_event_bytes=2048) as hub:
        with pytest.raises(BusyError) as caught:
            hub.publish_many([("a", Event("x" * 90)) for _ in range(40)])
        with pytest.raises(LimitError, match="mailbox_bytes"):
            hub.publish_many([("a", Event("x" * 1000)) for _ in range(5)])

        assert caught.value.retry_after > 0
        assert hub.stats()["publish_refused"] == 1


def test_streams_are_bounded_softly() -> None:
    """A stream above `max_streams` is told when to come back and ends, with status 200: a browser would give up else."""
    with Hub(max_streams=1, drain_retry=(10, 20)) as hub:
        first = Client(hub.subscribe("a"))
        next(first.stream)
        hub.publish("a", "x")
        first.read(1)
        refused = list(hub.subscribe("a"))

        assert len(refused) == 1
        assert refused[0] in {b"retry: %d\n\n" % retry for retry in range(10, 21)}
        assert hub.stats()["streams_refused"] == 1


def test_the_bound_of_streams_holds_for_those_who_come_at_once() -> None:
    """A stream has its place from its first byte on, before its connection is adopted: and no more are opened."""
    with Hub(max_streams=5, drain_retry=(10, 20)) as hub:
        hub.publish("a", "x")
        streams = [hub.subscribe("a") for _ in range(60)]
        gate = threading.Barrier(len(streams))

        def opening(stream: EventStream) -> bytes:
            gate.wait()
            return next(stream)

        with ThreadPoolExecutor(len(streams)) as pool:
            openings = list(pool.map(opening, streams))

        assert len([each for each in openings if b"id: " in each]) == 5
        assert hub.stats()["streams_refused"] == 55


def test_a_place_is_given_back_whatever_becomes_of_its_stream() -> None:
    """A stream that is closed before it is adopted, or dropped without a word, or ended, leaves room for another one."""
    with Hub(max_streams=1) as hub:

        def has_room() -> bool:
            stream = hub.subscribe("a")
            opened = b"id: " in next(stream)
            stream.close()
            return opened

        closed = hub.subscribe("a")
        next(closed)
        assert not has_room()
        closed.close()
        assert has_room()

        dropped = hub.subscribe("a")
        next(dropped)
        assert not has_room()
        del dropped
        assert has_room()

        adopted = Client(hub.subscribe("a"))
        next(adopted.stream)
        hub.publish("a", "x")
        adopted.read(1)
        assert not has_room()
        adopted.leave()
        eventually(has_room)


def test_a_connection_on_its_way_to_a_loop_has_its_place() -> None:
    """Between the hand-over and the loop's next look into its mail a stream counts as well."""
    with Hub(max_streams=3, loops=2) as hub:
        ends = []
        for _ in range(3):
            stream = hub.subscribe("a")
            next(stream)
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            hub.adopt(stream, theirs)
            ends.append(ours)
            del stream
        assert b"id: " not in next(hub.subscribe("a"))
        for ours in ends:
            ours.close()
        eventually(lambda: b"id: " in next(hub.subscribe("a")))


def test_topics_are_bounded_and_idle_ones_make_room() -> None:
    """A topic above `max_topics` takes the place of an idle one; where all are in use it is refused."""
    with Hub(max_topics=2, topics={"*": TopicOptions(history_age=1)}) as hub:
        hub.publish("a", "x")
        client = Client(hub.subscribe("b"))
        next(client.stream)
        hub.publish("b", "x")
        client.read(1)
        with pytest.raises(LimitError, match="max_topics is 2"):
            hub.publish("c", "x")
        assert hub.stats()["topics_refused"] == 1
        eventually(lambda: hub.topics()["a"]["events"] == 0)
        hub.publish("c", "x")

        assert set(hub.topics()) == {"b", "c"}


def test_a_topic_that_was_forgotten_does_not_claim_continuity() -> None:
    """A topic that comes back after it made room tells a gap to who resumes from before."""
    with Hub(max_topics=1, topics={"*": TopicOptions(history_age=1)}) as hub:
        old = hub.publish("a", "old")
        hub.publish("a", "lost")
        eventually(lambda: hub.stats()["events_evicted_by_age"] == 2)
        hub.publish("b", "x")
        eventually(lambda: hub.stats()["events_evicted_by_age"] == 3)
        new = hub.publish("a", "new")
        client = Client(hub.subscribe("a", last_event_id=old.id))
        events = client.until(new.id)

        assert [event.event for event in events] == ["gap", None]


def test_options_by_pattern_reach_the_log() -> None:
    """A topic keeps as much history as its pattern says."""
    with Hub(topics={"short/*": TopicOptions(history_events=2)}) as hub:
        for _ in range(5):
            hub.publish("short/a", "x")
            hub.publish("long", "x")
        client = Client(hub.subscribe("long", last_event_id="0-0"))
        client.read(5)

        assert hub.topics()["short/a"]["events"] == 2
        assert hub.topics()["long"]["events"] == 5


@pytest.mark.parametrize(
    "options",
    [
        {"loops": 0}, {"keepalive": 0}, {"send_timeout": 0}, {"max_streams": 0}, {"max_topics": 0},
        {"max_stream_topics": 2000}, {"retry": -1}, {"drain_retry": (5, 1)}, {"gap_event": "a\nb"},
        {"mailbox_bytes": 4096}, {"drain_seconds": -1},
    ],
)  # fmt: skip
def test_impossible_hubs_are_refused(options: dict[str, Any]) -> None:
    """Options that contradict themselves or each other are errors at construction."""
    with pytest.raises((ConfigurationError, EventError)):
        Hub(**options)


def test_constructing_a_hub_starts_nothing() -> None:
    """A hub is a value until it is used: no thread, no descriptor, so it may stand at a module's top."""
    before = {path: set(os.listdir(path)) for path in ("/proc/self/task", "/proc/self/fd")}
    hubs = [Hub() for _ in range(10)]
    streams = [hub.subscribe("a") for hub in hubs]

    # Less is possible: a thread that was joined may still be listed for a moment.
    assert all(set(os.listdir(path)) <= names for path, names in before.items())
    assert all(hub.stats().get("streams", 0) == 0 for hub in hubs)
    assert len(streams) == 10


def test_native_threads_take_no_signals(hub: Hub) -> None:
    """All signals are blocked in the loops: Python's main thread gets them at once."""
    before = set(os.listdir("/proc/self/task"))
    hub.publish("a", "x")
    [loop] = set(os.listdir("/proc/self/task")) - before
    with open(f"/proc/self/task/{loop}/status") as status:
        fields = dict(line.split(":\t") for line in status)
    blocked = int(fields["SigBlk"], 16)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        assert blocked & 1 << (number - 1)


def test_a_child_of_fork_starts_anew(hub: Hub) -> None:
    """After a fork the child's hub has threads, history and an order of its own, and the parent's goes on."""
    hub.publish("a", "parent's")
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            client = Client(hub.subscribe("a", last_event_id="0-0"))
            hub.publish("a", "child's")
            theirs.sendall((client.read(1)[0].data or "").encode())
            os._exit(0)
        except BaseException:
            os._exit(1)
    theirs.close()
    ours.settimeout(10)

    assert ours.recv(100) == b"child's"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client = Client(hub.subscribe("a", last_event_id="0-0"))
    assert data(client.read(1)) == ["parent's"]
    ours.close()


def test_a_second_process_is_refused_in_memory(hub: Hub) -> None:
    """A hub in memory cannot serve one of several processes, and says what to do instead."""
    with pytest.raises(MultiprocessError, match="one process with more threads"):
        hub.subscribe("a", environ={"wsgi.multiprocess": True})


def test_a_closed_hub_says_so() -> None:
    """After close streams have ended, publishing and subscribing are errors, and the numbers can still be read."""
    hub = Hub()
    client = Client(hub.subscribe("a"))
    next(client.stream)
    hub.publish("a", "x")
    client.read(1)
    hub.close()
    hub.close()

    assert list(client.stream) == []
    with pytest.raises(HubClosedError):
        hub.publish("a", "x")
    with pytest.raises(HubClosedError):
        hub.subscribe("a")
    assert hub.stats()["streams_ended_closed"] == 1
    assert hub.is_healthy()


def test_a_hub_that_was_never_used_closes_and_drains(hub: Hub) -> None:
    """Stopping what never started is no error, and a hub that drains takes no streams."""
    hub.drain()

    assert hub.draining
    assert next(hub.subscribe("a")).startswith(b"retry: ")


def test_streams_end_in_the_portable_path_too(hub: Hub) -> None:
    """Closing the body, as a WSGI server does when the client is gone, ends the stream in the engine."""
    assert hub.ended() == []
    client = Client(hub.subscribe("a"))
    next(client.stream)
    hub.publish("a", "x")
    client.read(1)

    assert hub.streams == 1

    client.stream.close()
    eventually(lambda: hub.streams == 0)
    [end] = hub.ended()
    assert (end.number, end.reason, end.events, end.subject, end.request_id) == (1, "client", 1, None, None)
    assert end.bytes > 0
    assert hub.ended() == []
    assert list(client.stream) == []


def test_health_is_that_of_the_loops(hub: Hub) -> None:
    """A hub is healthy while its loops make turns."""
    assert hub.is_healthy()
    hub.publish("a", "x")
    assert hub.is_healthy()
    assert hub.is_healthy()


def test_streams_are_counted_by_topic(hub: Hub) -> None:
    """Topics with streams are listed with how many, and those asked for are answered, with 0 too."""
    one, two = Client(hub.subscribe(["a", "b"])), Client(hub.subscribe("a"))
    for client in (one, two):
        next(client.stream)
    hub.publish("a", "x")
    one.read(1)
    two.read(1)

    assert hub.audience() == {"a": 2, "b": 1}
    assert hub.audience(["b", "none"]) == {"b": 1, "none": 0}
    assert len(hub.workers()) == 1


def test_a_hub_is_ready_until_it_drains(hub: Hub) -> None:
    """In memory a hub is ready from the start; one that drains or was closed is not."""
    assert hub.is_ready()
    hub.drain(0)
    assert not hub.is_ready()
    hub.close()
    assert not hub.is_ready()


def test_a_request_id_is_told_with_the_end_of_its_stream(hub: Hub) -> None:
    """A stream with a request id has its end told with it, and with its subject, without anybody having asked before."""
    client = Client(hub.subscribe("a", subject="alice", request_id="0f" * 16))
    next(client.stream)
    hub.publish("a", "x")
    client.read(1)
    client.stream.close()
    eventually(lambda: hub.streams == 0)
    hub.close()

    assert [(end.subject, end.request_id, end.events) for end in hub.ended()] == [("alice", "0f" * 16, 1)]


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a\nb", "\xe4", b"a" * 32])
def test_a_request_id_is_short_and_printable(hub: Hub, request_id: object) -> None:
    """What could not be written into a log as it is, is no request id."""
    with pytest.raises(ConfigurationError, match="request_id"):
        hub.subscribe("a", request_id=request_id)  # type: ignore[arg-type]


def test_streams_that_come_back_are_counted(hub: Hub) -> None:
    """A stream that resumes after an id is a reconnect, answered from the log; one that begins, or asks for all, is none."""
    first = hub.publish("a", "x").id
    hub.publish("a", "y")
    for last in (None, "0-0", first, "nonsense"):
        client = Client(hub.subscribe("a", last_event_id=last))
        next(client.stream)
        client.stream.close()

    stats = hub.stats()
    assert (stats["streams_resumed"], stats["replays_log"], stats["replays_backplane"]) == (2, 2, 0)


def test_a_drain_shows_in_the_numbers(hub: Hub) -> None:
    """A hub that drains says so, and times what it does from its first use on."""
    assert hub.stats()["draining"] == 0
    assert hub.histograms()["turns"].total == 0
    hub.publish("a", "x")
    hub.drain(0)

    assert hub.stats()["draining"] == 1
    eventually(lambda: hub.histograms()["turns"].total > 0)
