"""The judge: a ledger that finds each kind of fault, and a reader of real responses."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from sse_core import Event
from sse_core.testing import Fault, Ledger, StreamEnded, StreamReader


def ledger() -> Ledger:
    """Two events of topic a, one of b, and a stream that is owed a and b."""
    made = Ledger()
    made.published("a", "1-0", "one")
    made.published("b", "2-0")
    made.published("a", "3-0")
    made.subscribed("s", ["a", "b"], after="0-0")
    return made


def kinds(judge: Ledger, *ids: str) -> list[str]:
    """The kinds of fault when the stream received these ids."""
    for ident in ids:
        judge.received("s", Event("one", id=ident))
    return [fault.kind for fault in judge.faults()]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1-0", "2-0", "3-0"], []),
        (["1-0", "3-0"], ["lost"]),
        (["1-0", "2-0", "2-0", "3-0"], ["duplicate"]),
        (["2-0", "1-0", "3-0"], ["disorder"]),
        (["1-0", "2-0", "3-0", "9-0"], ["unknown"]),
        ([], ["lost", "lost", "lost"]),
    ],
)
def test_each_kind_of_fault_is_found(ids: list[str], expected: list[str]) -> None:
    """Loss, duplicates, disorder and events that nobody published are told apart."""
    assert kinds(ledger(), *ids) == expected


def test_changed_content_is_found() -> None:
    """An event whose data is not what was published is a fault."""
    judge = ledger()
    judge.received("s", Event("other", id="1-0"))

    assert Fault("altered", "s", "a", "1-0") in judge.faults()


def test_a_loss_that_was_told_is_none() -> None:
    """What a gap event covers of its topic is excused, and nothing else is."""
    judge = ledger()
    judge.received("s", Event({"topic": "a", "reason": "trimmed"}, event="gap", id="1-0"))
    judge.received("s", Event("x", id="3-0"))

    assert [(fault.kind, fault.topic) for fault in judge.faults()] == [("lost", "b")]
    assert judge.told() == [("s", {"topic": "a", "reason": "trimmed"})]


def test_a_stream_is_owed_only_what_it_asked_for() -> None:
    """Other topics, and what came before, are not missed."""
    judge = ledger()
    judge.subscribed("t", ["a"], after="1-0")
    judge.received("t", Event("x", id="3-0"))

    assert [fault for fault in judge.faults() if fault.stream == "t"] == []


def serve(answer: bytes) -> tuple[str, int]:
    """The address of a server that gives one client this answer, byte by byte."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        for i in range(len(answer)):
            connection.sendall(answer[i : i + 1])
        connection.close()
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    address: tuple[str, int] = listener.getsockname()
    return address


def test_the_reader_resumes_after_what_it_has_returned() -> None:
    """Events that have arrived and were not asked for yet are not lost by resuming with the reader's last id."""
    body = b"id: 1-0\ndata: x\n\nid: 2-0\ndata: y\n\nid: 3-0\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with StreamReader(serve(head + body), "/", last_event_id="0-5") as reader:
        reader.read_until_id("3-0")
        assert reader.last_event_id == "0-5"
        reader.read()
        assert reader.last_event_id == "1-0"
        reader.read()
        assert reader.last_event_id == "3-0"


@pytest.mark.parametrize("chunked", [False, True])
def test_the_reader_reads_both_codings(chunked: bool) -> None:
    """A body delimited by close and a chunked one give the same events."""
    body = b"retry: 7\nid: 1-0\n\ndata: x\nid: 2-0\n\ndata: y\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    if chunked:
        parts = [body[:10], body[10:30], body[30:], b""]
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n"
        answer += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    else:
        answer = head + b"\r\n" + body
    with StreamReader(serve(answer), "/") as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert [event.data for event in reader.read(2)] == ["x", "y"]
        assert (reader.last_event_id, reader.retry) == ("2-0", 7)
        assert reader.read_to_end() == []
        assert reader.raw == body
        with pytest.raises(StreamEnded):
            reader.read()


def test_the_reader_does_not_wait_for_ever() -> None:
    """What does not come in time is a TimeoutError."""
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(TimeoutError):
        StreamReader(listener.getsockname(), "/", timeout=0.05)
    listener.close()


def test_gap_data_is_json() -> None:
    """The ledger reads the data of gap events as the wire has it."""
    judge = ledger()
    data = {"topic": "a", "asked": None, "oldest": None, "reason": "restart"}
    judge.received("s", Event(json.dumps(data), event="gap", id="0-1"))

    assert judge.told() == [("s", data)]
