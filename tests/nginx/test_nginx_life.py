"""What happens to open streams when nginx reloads, when the service restarts, and in long silence; with both versions."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sse_core.testing import StreamReader
from sse_kit.nginxkit.program import Program
from tests.nginx.client import TIMEOUT, Client
from tests.nginx.upstream import OpenStream, Upstream
from tests.nginx_server import Nginx, latest_nginx, machine_s_nginx
from tests.servers import Server, running_service
from tests.stack import Stack

STREAMS = 500
#: One second for what the shipped files give ten.
SOON = ("nginx.conf", "worker_shutdown_timeout 10s;", "worker_shutdown_timeout 1s;")
PATIENCE = 60.0


@pytest.fixture(params=[machine_s_nginx, latest_nginx], ids=["machine's", "latest"])
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.param()
    return found


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    with running_service(keepalive=1, drain_seconds=0.2, drain_retry=[10, 20]) as service:
        yield service


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def open_stream(nginx: Nginx, target: str, last_event_id: str | None = None) -> StreamReader:
    return StreamReader(("127.0.0.1", nginx.port), target, last_event_id=last_event_id, timeout=PATIENCE)


def workers(nginx: Nginx) -> set[int]:
    """The pids of nginx's workers."""
    children = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
    return {int(pid) for pid in children}


def listeners(stack: Stack, topic: str) -> int:
    """How many streams of a topic the service has."""
    return int(stack.service.request("GET", f"/topics/{topic}").json()["streams"])


def test_a_reload_with_500_streams(service: Server, program: Program) -> None:
    """A reload lets open streams go on for worker_shutdown_timeout and then closes them; who comes back has lost nothing."""
    topic = f"reload-{'.'.join(map(str, program.version))}"
    with Nginx(service.url, program=program, replace=SOON) as nginx, ExitStack() as clients:
        stack = Stack(service, nginx)
        streams = [clients.enter_context(open_stream(nginx, f"/events?topic={topic}")) for _ in range(STREAMS)]
        published = [stack.publish(topic, "before")]
        seen = [[event.id for event in stream.read()] for stream in streams]
        before = workers(nginx)

        nginx.signal(signal.SIGHUP)
        wait_until(lambda: bool(workers(nginx) - before), "no new worker")
        published.append(stack.publish(topic, "meanwhile"))
        # Each ends without another word; some have had the event before, and some have not.
        for stream, ids in zip(streams, seen, strict=True):
            ids += [event.id for event in stream.read_to_end()]
        wait_until(lambda: not workers(nginx) & before, "an old worker lives on")
        published.append(stack.publish(topic, "after"))

        for stream, ids in zip(streams, seen, strict=True):
            with open_stream(nginx, f"/events?topic={topic}", stream.last_event_id) as again:
                ids += [event.id for event in again.read(len(published) - len(ids))]
        assert seen == [published] * STREAMS


def test_a_restart_of_the_service(program: Program) -> None:
    """While the service is away streams are sent away softly, publishes are refused, and then all goes on without nginx."""
    settings = {"keepalive": 1, "drain_seconds": 0.2, "drain_retry": [10, 20]}
    with running_service(**settings) as service, Nginx(service.url, program=program) as nginx:
        stack = Stack(service, nginx)
        with open_stream(nginx, "/events?topic=a") as stream:
            stack.publish("a", "before")
            stream.read()
            service.stop()
            assert stream.read_to_end() == []
            # What a draining service says, not what nginx would say for it.
            assert stream.retry is not None
            assert 10 <= stream.retry <= 20
        with Client(nginx.port) as client:
            soft = client.get("/events?topic=a", {"Last-Event-ID": stream.last_event_id})
            assert (soft.status, soft.body()[:7]) == (200, b"retry: ")
        with Client(nginx.port) as client:
            client.send("POST", "/publish", body=b"{}")
            assert client.response().status == 502
        service.start()

        with open_stream(nginx, "/events?topic=a", stream.last_event_id) as again:
            # Its history was in its memory, and it says so.
            (gap,) = again.read()
            after = stack.publish("a", "after")
            (event,) = again.read()
        assert gap.event == "gap"
        assert (event.id, event.data) == (after, "after")


def test_a_client_that_leaves_is_noticed(service: Server, program: Program) -> None:
    """The service counts a stream through nginx as gone when its client has gone."""
    with Nginx(service.url, program=program) as nginx:
        stack = Stack(service, nginx)
        before = listeners(stack, "leave")
        with open_stream(nginx, "/events?topic=leave"):
            wait_until(lambda: listeners(stack, "leave") == before + 1, "the stream is not counted")

        wait_until(lambda: listeners(stack, "leave") == before, "the stream is still counted")


def test_silence_beyond_what_was_rendered(upstream: Upstream, program: Program) -> None:
    """A stream that is silent for longer than four keepalives, as they were rendered, is ended: its service is dead."""
    stream = OpenStream(upstream)
    with Nginx(upstream.address, program=program, keepalive=0.1) as nginx, Client(nginx.port) as client:
        response = client.get("/events?topic=a")
        # No end of a chunked body: to the client it is a lost connection, and it comes back.
        with pytest.raises((ValueError, ConnectionError)):
            response.body()

        assert stream.left.wait(TIMEOUT)
        assert "upstream timed out" in nginx.errors.read_text()


def test_keepalives_outlast_what_was_rendered() -> None:
    """A stream without an event stays open for longer than nginx waits for a byte: keepalives are bytes."""
    # 4 s are what nginx waits for a byte, and 0.1 s what the service leaves between two.
    with running_service(keepalive=0.1, drain_seconds=0.2) as service, Nginx(service.url, keepalive=1) as nginx:
        stack = Stack(service, nginx)
        with open_stream(nginx, "/events?topic=quiet") as stream:
            long_enough = time.monotonic() + 4.5
            while time.monotonic() < long_enough:
                # Of another topic: it moves the cursor of a quiet stream by a keepalive and nothing else.
                stream.read_until_id(stack.publish("another", 1))
            event_id = stack.publish("quiet", "here")

            assert [event.id for event in stream.read()] == [event_id]


@pytest.mark.soak
def test_65_seconds_of_silence(program: Program) -> None:
    """As shipped, a stream without an event for 65 s stays open, and the next event arrives on it."""
    with running_service() as service, Nginx(service.url, program=program) as nginx:
        stack = Stack(service, nginx)
        with open_stream(nginx, "/events?topic=quiet") as stream:
            time.sleep(65)
            event_id = stack.publish("quiet", "here")

            assert [event.id for event in stream.read()] == [event_id]
