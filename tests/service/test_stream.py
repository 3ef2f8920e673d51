from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from sse_core.testing import Ledger
from tests.servers import TIMEOUT, Server, running_service


def test_head_of_a_stream(server: Server) -> None:
    """A stream is never cached or buffered, and begins with the reconnect delay and the client's place."""
    with server.reader("/events?topic=a") as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-cache, no-store"
        assert reader.headers["x-accel-buffering"] == "no"
        event_id = server.publish("a", 1)
        (event,) = reader.read()

    assert reader.retry == 2000
    assert event.id == event_id
    assert reader.raw.startswith(b"retry: 2000\nid: ")


def test_publish_to_stream(server: Server) -> None:
    """What is published arrives with its name and data, text as text and other values as JSON."""
    with server.reader("/events?topic=text&topic=json") as reader:
        server.publish("text", "two\nlines", event="greeting")
        server.publish("json", {"ä": [1, None]})
        server.publish("other", "not asked for")
        server.publish("text", "last")
        events = reader.read(3)

    assert [(event.event, event.data) for event in events] == [
        ("greeting", "two\nlines"),
        (None, '{"ä":[1,null]}'),
        (None, "last"),
    ]


def test_header_beats_query(server: Server) -> None:
    """A browser that reconnects to the URL it first opened goes on where it was, whatever the query says."""
    first, second = server.publish("resume", 1), server.publish("resume", 2)

    with server.reader(f"/events?topic=resume&last_event_id={first}") as reader:
        assert [event.id for event in reader.read()] == [second]
    third = server.publish("resume", 3)
    with server.reader(f"/events?topic=resume&last_event_id={first}", last_event_id=second) as reader:
        assert [event.id for event in reader.read()] == [third]


def test_everything_left(server: Server) -> None:
    """The id 0-0 asks for all that is left."""
    ids = [server.publish("left", number) for number in range(3)]

    with server.reader("/events?topic=left&last_event_id=0-0") as reader:
        assert [event.id for event in reader.read(3)] == ids


@pytest.mark.parametrize("path", ["/events?topic=a", "/", "/healthz", "/metrics", "/openapi.json", "/static/main.js"])
def test_head(server: Server, path: str) -> None:
    """HEAD answers as GET does, without a body, and the connection serves the next request."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(server.socket_path)
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while b'"Not Found"' not in received:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk

    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.startswith(b"HTTP/1.1 404")


def test_chunked_publish(server: Server) -> None:
    """A body of unknown length is taken, and refused when it is above the bound."""
    body = b'{"topic":"a","data":1}'
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}

    def chunked(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)

    assert server.request("POST", "/publish", chunked(body), headers).status == 200
    refused = server.request("POST", "/publish", chunked(body + b" " * (1 << 20)), headers)
    assert (refused.status, refused.json()["limit"]) == (413, "max_body_bytes")


def test_missing_body(server: Server) -> None:
    """A request without a body is told what is wrong with it."""
    answer = server.request("POST", "/publish", None, {"Content-Type": "application/json"})

    assert (answer.status, answer.json()["type"]) == (400, "urn:sse-kit:problem:invalid-json")


def test_stats_topic(server: Server) -> None:
    """The server's counters are a topic, renewed by itself, that shows the newest first."""
    with server.reader("/events?topic=server/stats") as reader:
        first, second = (json.loads(event.data or "") for event in reader.read(2))

    assert second["time"] > first["time"]
    assert second["streams"] >= 1
    with server.reader("/events?topic=server/stats") as reader:
        (event,) = reader.read()
        assert json.loads(event.data or "")["time"] >= second["time"]


def test_restart_is_told() -> None:
    """After a restart a client that resumes is told that what came before is gone, and gets all that comes after."""
    with running_service() as server:
        before = server.publish("a", "before")
        server.stop()
        server.start()
        with server.reader("/events?topic=a", last_event_id=before) as reader:
            (gap,) = reader.read()
            server.publish("a", "after")
            (event,) = reader.read()

    assert gap.event == "gap"
    assert json.loads(gap.data or "")["reason"] == "restart"
    assert event.data == "after"


def test_graceful_stop() -> None:
    """TERM sends streams away with a delay of their own, loses nothing that was published, and ends in order."""
    with running_service(drain_seconds=0.5, drain_retry=[1111, 1112]) as server:
        ledger = Ledger()
        with server.reader("/events?topic=a") as reader, server.reader("/events?topic=server/stats"):
            ledger.subscribed("reader", ["a"], after="0-0")
            for number in range(100):
                ledger.published("a", server.publish("a", number), str(number))
            code = server.stop()
            for event in reader.read_to_end():
                ledger.received("reader", event)

    assert code == 0
    assert reader.retry in (1111, 1112)
    assert ledger.faults() == []
    assert not [line for line in server.log if '"error"' in line]


def test_hang_up_reloads() -> None:
    """HUP starts a new worker with the same settings, and the service goes on."""
    with running_service(max_stream_topics=1) as server:
        server.publish("a", 1)
        before = len(server.log)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("Worker exiting", after=before)

        assert server.request("GET", "/events?topic=a&topic=b").status == 400
        server.publish("a", 2)
