"""How an EventWorker ends and is replaced, and what its clients are told."""

from __future__ import annotations

import json
import selectors
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from sse_core.ids import parse_id
from sse_core.testing import Ledger, StreamReader
from tests.integration.servers import Server, back_to_rest, gunicorn, read_all, until, wait_for_end


def read_until_restarted(reader: StreamReader, topic: str, asked: str) -> None:
    """Read the gap that a client of a hub which forgot everything is told."""
    gap = reader.read()[0]
    assert gap.event == "gap"
    assert gap.data is not None
    told = json.loads(gap.data)
    assert (told["topic"], told["asked"], told["reason"]) == (topic, asked, "restart")


def moments_of_end(connections: list[socket.socket]) -> tuple[list[float], list[bytes]]:
    """Read all to their ends, each closed as soon as it has ended; a reset raises."""
    moments: list[float] = []
    received = dict.fromkeys(connections, b"")
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(15)
            assert ready, "a stream did not end"
            for key, _ in ready:
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                chunk = connection.recv(65536)
                received[connection] += chunk
                if not chunk:
                    moments.append(time.monotonic())
                    selector.unregister(connection)
                    connection.close()
    return moments, list(received.values())


REQUEST = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"


def test_term_drains_at_an_even_pace() -> None:
    """On TERM each client gets a retry of its own and a clean end, spread over the drain, and the worker exits with 0."""
    count = 20
    with gunicorn(hub={"drain_seconds": 1.0, "drain_retry": [100, 100_000]}) as server:
        worker = server.worker
        connections = [server.send(REQUEST) for _ in range(count)]
        until(lambda: server.stats()["streams"] == count, "all streams are adopted")
        server.publish("a", "last")
        server.signal(signal.SIGTERM)
        moments, received = moments_of_end(connections)
        assert server.wait() == 0
        state = server.wait_for("exit", pid=worker)["state"]
    assert (state["streams"], state["nr_conns"], state["streams_ended_drained"]) == (0, 0, count)
    # A bound from below: how late the last is depends on the machine, that the first does not wait for it does not.
    assert max(moments) - min(moments) > 0.5
    times = set()
    for answer in received:
        assert b"data: last\n\n" in answer
        bye = answer.rpartition(b"\n\nretry: ")[2]
        assert bye.endswith(b"\n\n")
        times.add(int(bye))
    assert len(times) > 1
    assert min(times) >= 100
    assert max(times) <= 100_000


def test_term_does_not_wait_for_clients_that_stay() -> None:
    """A client that keeps its end open after the bye does not hold the worker beyond graceful_timeout."""
    with gunicorn() as server:
        connections = [server.send(REQUEST) for _ in range(3)]
        until(lambda: server.stats()["streams"] == 3, "all streams are adopted")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "SIGKILL" not in server.log()
        for connection in connections:
            assert b"retry: " in read_all(connection)
            connection.close()


def test_a_stream_asked_for_while_the_worker_stops_is_answered_softly() -> None:
    """A request that was under way at TERM and opens the first stream of its hub gets a retry and the end."""
    with gunicorn() as server, server.send(REQUEST.replace(b"/events", b"/gated")) as connection:
        worker = server.wait_for("at the gate")["pid"]
        server.signal(signal.SIGTERM, worker)
        until(
            lambda: server.stats(worker)["stopping"], "the worker has begun to drain its hubs, of which it knows none"
        )
        server.ask("open gate", pid=worker)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        # By chunks or bare, the whole body is one retry.
        assert b"retry: " in body
        assert b"id: " not in body
        assert server.wait_for("exit", pid=worker)["state"]["streams"] == 0


@pytest.mark.parametrize("quick", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_shutdown_is_quick(quick: signal.Signals) -> None:
    """INT and QUIT end the worker at once, also while threads of it serve streams by iteration."""
    with gunicorn(threads=3) as server:
        claimed = [server.send(REQUEST) for _ in range(3)]
        iterated = [server.send(REQUEST.replace(b"/events", b"/created")) for _ in range(2)]
        until(lambda: server.stats()["streams"] == 5, "all streams are open")
        server.signal(quick)
        assert server.wait() == 0
        assert "SIGKILL" not in server.log()
        for connection in claimed + iterated:
            connection.close()


def test_hup_replaces_the_worker_and_says_so() -> None:
    """After HUP a client comes back to a new worker, is told gap (restart), and misses nothing that was published since."""
    ledger = Ledger()
    with gunicorn() as server:
        old = server.worker
        with server.stream() as reader:
            ledger.subscribed("s", ["a"], after="0-0")
            for data in "12345":
                ledger.published("a", server.publish("a", data))
            for event in reader.read(5):
                ledger.received("s", event)
            server.signal(signal.SIGHUP)
            new = server.wait_for("ready")["pid"]
            assert reader.read_to_end() == []
            assert reader.raw.endswith(f"retry: {reader.retry}\n\n".encode())
            last = reader.last_event_id
        assert server.wait_for("exit", pid=old)["state"]["streams"] == 0
        first = server.publish("a", "of the new worker")
        ledger.published("a", first)
        with server.stream(last_event_id=last) as reader:
            assert reader.headers["x-worker"] == str(new)
            read_until_restarted(reader, "a", last)
            ledger.published("a", server.publish("a", "live"))
            for event in reader.read(2):
                ledger.received("s", event)
        assert ledger.faults() == []


def test_usr2_runs_two_hubs_and_claims_no_continuity_between_them() -> None:
    """While two masters serve one socket, a client that moves from one hub to the other is always told a gap."""
    with gunicorn() as server:
        old = server.worker
        # The old hub lives before and the new one after this.
        server.publish_aside("a", "start", pid=old)
        server.signal(signal.SIGUSR2)
        notice = server.wait_for("ready")
        new, master = notice["pid"], notice["ppid"]
        server.adopt_master(master)
        # Ids of both hubs come from the clock and interleave.
        hidden = server.publish_aside("a", "hidden from clients of the old hub", pid=new)
        seen = publish_after(server, hidden, pid=old)
        newer = publish_after(server, seen, pid=new)
        with stream_from(server, new, last_event_id=seen) as reader:
            first = reader.read()[0]
            assert first.event == "gap", "what the new hub has published before was skipped without a word"
        # And back: what the client saw of the new hub means nothing to the old one.
        publish_after(server, newer, pid=old)
        with stream_from(server, old, last_event_id=newer) as reader:
            assert reader.read()[0].event == "gap"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        with server.stream() as reader:
            assert reader.headers["x-worker"] == str(new)


def publish_after(server: Server, event_id: str, *, pid: int) -> str:
    """Publish until the clock has given an id above that of another hub."""
    while True:
        newer = server.publish_aside("a", "x", pid=pid)
        if number(newer) > number(event_id):
            return newer


def number(event_id: str) -> int:
    """An id as a number, which ids of two hubs can be compared by."""
    parsed = parse_id(event_id)
    assert parsed is not None
    return parsed


def stream_from(server: Server, worker: int, **options: str) -> StreamReader:
    """A stream that a certain worker serves, of those that accept from one socket."""
    while True:
        reader = server.stream(**options)
        if reader.headers["x-worker"] == str(worker):
            return reader
        reader.close()


def test_max_requests_drains_and_replaces_the_worker() -> None:
    """A worker that has served its requests drains its streams, and its successor serves the clients that come back."""
    with gunicorn(max_requests=3) as server:
        old = server.worker
        with server.stream() as reader:
            event_id = server.publish("a", "x")
            assert reader.read()[0].id == event_id
            with server.stream() as last:
                assert last.read_to_end() == []
                assert last.retry is not None
            assert reader.read_to_end() == []
            assert reader.raw.endswith(f"retry: {reader.retry}\n\n".encode())
        state = server.wait_for("exit", pid=old)["state"]
        assert (state["streams"], state["nr_conns"], state["streams_ended_drained"]) == (0, 0, 2)
        server.wait_for("ready")
        server.publish_aside("a", "of the new worker")
        with server.stream(last_event_id=event_id) as reader:
            read_until_restarted(reader, "a", event_id)
            assert reader.read()[0].data == "of the new worker"


def test_a_killed_worker_is_replaced() -> None:
    """Clients of a worker that was killed see their connection end, come back to its successor, and are told restart."""
    with gunicorn(errors=True) as server:
        old = server.worker
        with server.stream() as reader:
            event_id = server.publish("a", "x")
            assert reader.read()[0].id == event_id
            server.signal(signal.SIGKILL, old)
            assert reader.read_to_end() == []
        server.wait_for("ready")
        with server.stream(last_event_id=event_id) as reader:
            live = server.publish("a", "live")
            read_until_restarted(reader, "a", event_id)
            assert reader.read()[0].id == live
        until(lambda: server.stats()["streams"] == 0, "the client has left")


def test_a_worker_with_a_stuck_loop_is_replaced() -> None:
    """When a loop makes no turn the heartbeat stops: the arbiter ends the worker after its timeout and starts another."""
    with gunicorn(errors=True, timeout=2) as server:
        old = server.worker
        # gunicorn's timeout begins with the first beat, which comes before the first request.
        assert server.request("GET", "/plain")[0] == 200
        server.ask("get stuck")
        wait_for_end(old)
        assert "WORKER TIMEOUT" in server.log()
        server.wait_for("ready")
        with server.stream() as reader:
            event_id = server.publish("a", "x")
            assert reader.read()[0].id == event_id


def test_a_worker_with_streams_outlives_its_timeout() -> None:
    """Open streams do not count for gunicorn's timeout: the worker beats while they are quiet."""
    # gunicorn beats once a second, so a shorter timeout would end any worker.
    with gunicorn(timeout=2, hub={"keepalive": 0.5}) as server, server.stream() as reader:
        worker = server.worker
        until(lambda: server.stats()["keepalives"] >= 7, "more than three seconds have passed")
        assert server.worker == worker
        event_id = server.publish("a", "x")
        assert reader.read()[0].id == event_id


def test_a_hub_made_before_the_fork_serves_after_it() -> None:
    """With preload_app the hub is constructed in the master; each worker's hub starts on its own and serves."""
    with gunicorn(preload=True, errors=True) as server:
        with back_to_rest(server), server.stream() as reader:
            event_id = server.publish("a", "x")
            assert reader.read()[0].id == event_id
        # Nothing runs in the master: one thread, and no epoll of a loop.
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
        server.signal(signal.SIGKILL, server.worker)
        server.wait_for("ready")
        with server.stream(last_event_id=event_id) as reader:
            read_until_restarted(reader, "a", event_id)


def test_term_in_the_middle_of_claims_cuts_no_stream() -> None:
    """Whoever got a head before the worker ended gets a retry and a clean end, however the claims and TERM fall together."""
    with gunicorn(threads=2) as server:
        answers: list[bytes] = []
        failures: list[BaseException] = []
        stopped = threading.Event()

        def keep_connecting() -> None:
            while not stopped.is_set():
                received = b""
                try:
                    with server.send(REQUEST) as connection:
                        while chunk := connection.recv(65536):
                            received += chunk
                except (ConnectionError, FileNotFoundError) as error:
                    # Nobody listens any more, or the request was never accepted.
                    if received:
                        failures.append(error)
                    return
                answers.append(received)

        clients = [threading.Thread(target=keep_connecting) for _ in range(16)]
        for client in clients:
            client.start()
        until(lambda: server.stats()["streams_adopted"] >= 8, "streams are claimed")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        stopped.set()
        for client in clients:
            client.join(15)
        assert "SIGKILL" not in server.log()
    assert failures == []
    whole = [answer for answer in answers if answer]
    assert len(whole) >= 8
    for answer in whole:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"retry: " in body.removeprefix(b"retry: 2000\n") or b"chunked" in head, answer


def test_term_lets_a_run_come_to_its_end() -> None:
    """While a worker stops, who listens to a run gets the rest of it and its end; all others are sent away at once."""
    with gunicorn(hub={"drain_seconds": 0.1}) as server:
        worker = server.worker
        topic = server.ask("produce")["topic"]
        run, other = server.stream(topic), server.stream("a")
        assert run.read()[0].data == "first"
        until(lambda: server.stats()["streams"] == 2, "both streams are adopted")
        server.signal(signal.SIGTERM)
        assert other.read_to_end() == []
        server.ask("open gate", pid=worker)
        events = run.read_to_end()

        assert [event.data for event in events] == ["second", '{"reason":"finished"}']
        assert server.wait() == 0


def test_a_run_that_takes_too_long_is_interrupted() -> None:
    """At the end of the worker's time what is under way ends with `failed`, so that nobody waits for the rest."""
    with gunicorn(hub={"drain_seconds": 0.1}, graceful_timeout=4) as server:
        topic = server.ask("produce")["topic"]
        run = server.stream(topic)
        assert run.read()[0].data == "first"
        until(lambda: server.stats()["streams"] == 1, "the stream is adopted")
        server.signal(signal.SIGTERM)
        events = run.read_to_end()

        assert [event.event for event in events] == ["failed"]
        assert json.loads(events[0].data or "")["reason"] == "interrupted"
        assert server.wait() == 0
