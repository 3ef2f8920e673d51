"""What one client may have of the service, over real sockets: at each bound, and one past it; and who forges its address."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from sse_core.testing import StreamReader
from tests.nginx_server import Nginx
from tests.redisserver import wait_until
from tests.servers import Server, running_service

#: What is no stream is over when its connection is.
CLOSE = {"Connection": "close"}
TOKENS = {"ann": "a" * 16, "ben": "b" * 16}


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    """The service with small limits. Of its own addresses none is believed, so that clients on this machine are clients."""
    with running_service(
        max_streams_per_address=3,
        forwarded_allow_ips="192.0.2.1",
        max_request_line_bytes=1000,
        max_header_bytes=500,
        max_headers=20,
        max_stream_topics=5,
        max_body_bytes=1000,
        max_batch_events=3,
        max_event_bytes=200_000,
    ) as server:
        yield server


def streams(server: Server) -> float:
    """How many streams are open."""
    return metric(server, 'sse_kit_streams{namespace="default"}')


def metric(server: Server, name: str) -> float:
    for line in server.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise LookupError(name)


def is_soft(reader: StreamReader) -> bool:
    """Whether a stream was only told when to come back, and closed."""
    assert reader.status == 200
    assert reader.read_to_end() == []
    return reader.raw.startswith(b"retry: ") and b"id:" not in reader.raw


def check_bound(server: Server, most: int, opened: Callable[[], StreamReader], limit: str) -> None:
    """Open as many streams as there may be, and one more, which is sent away softly; who leaves makes room."""
    reached = f'sse_kit_limit_reached_total{{limit="{limit}"}}'
    with contextlib.ExitStack() as stack:
        before, count = streams(server), metric(server, reached)
        mine = []
        for number in range(most):
            mine.append(stack.enter_context(opened()))
            wait_until(lambda wanted=before + number + 1: streams(server) == wanted, "it is adopted")  # type: ignore[misc]
        for _ in range(3):
            with opened() as refused:
                assert is_soft(refused)
        assert streams(server) == before + most
        assert metric(server, reached) == count + 3
        mine[0].close()
        wait_until(lambda: streams(server) == before + most - 1, "one has left")
        stack.enter_context(opened())
        wait_until(lambda: streams(server) == before + most, "another has come")
    wait_until(lambda: streams(server) == before, "all have left")


@pytest.mark.parametrize(
    "forged",
    [
        # Each stream claims to be somebody else; the proxy has written who it is at the end.
        lambda number: f"203.0.113.{number}, 198.51.100.7",
        lambda number: f"192.0.2.1, 10.0.0.{number},198.51.100.7",
        lambda number: f"{'1.1.1.1, ' * number}198.51.100.7, 192.0.2.1",
    ],
)
def test_streams_of_an_address(service: Server, forged: Callable[[int], str]) -> None:
    """One address has so many streams, whatever it writes into X-Forwarded-For; one more is told to come back."""
    numbers = iter(range(1, 100))

    def opened() -> StreamReader:
        return service.reader("/events?topic=a", headers={"X-Forwarded-For": forged(next(numbers)), **CLOSE})

    check_bound(service, 3, opened, "max_streams_per_address")


def test_streams_of_an_address_through_nginx(service: Server) -> None:
    """Through nginx the address is that of the connection: what the client sends as its own is replaced."""
    numbers = iter(range(1, 100))
    with Nginx(service.url) as nginx:

        def opened() -> StreamReader:
            forged = {
                "X-Forwarded-For": f"203.0.113.{next(numbers)}",
                "X-Real-IP": "203.0.113.1",
                "Forwarded": "for=1.1.1.1",
                **CLOSE,
            }
            return StreamReader(("127.0.0.1", nginx.port), "/events?topic=a", headers=forged, timeout=30)

        check_bound(service, 3, opened, "max_streams_per_address")


def test_streams_of_a_subject() -> None:
    """One subject has so many streams, from however many addresses; another one has its own."""
    numbers = iter(range(1, 100))
    with running_service(max_streams_per_subject=2, tokens=TOKENS) as server:

        def opened() -> StreamReader:
            token = {
                "Authorization": f"Bearer {TOKENS['ann']}",
                "X-Forwarded-For": f"203.0.113.{next(numbers)}",
                **CLOSE,
            }
            return server.reader("/events?topic=a", headers=token)

        with server.reader("/events?topic=a", headers={"Authorization": f"Bearer {TOKENS['ben']}"}):
            wait_until(lambda: streams(server) == 1, "the other one is adopted")
            check_bound(server, 2, opened, "max_streams_per_subject")


def test_a_crowd_at_once_has_no_more(service: Server) -> None:
    """Of forty streams that one address opens in the same moment only as many stay as there may be."""
    request = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 198.51.100.99\r\n\r\n"
    with contextlib.ExitStack() as stack:
        before = streams(service)
        connections = []
        for _ in range(40):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(30)
            connection.connect(service.socket_path)
            connections.append(connection)
        for connection in connections:
            connection.sendall(request)
        # All but three are closed by the server, whatever they were told before.
        stay = set(connections)

        def some_stay() -> bool:
            for connection in select.select(list(stay), [], [], 0.1)[0]:
                if not connection.recv(65536):
                    stay.discard(connection)
            return len(stay) <= 3

        wait_until(some_stay, "all but three are closed", timeout=60)
        wait_until(lambda: streams(service) == before + 3, "three stay")
        assert len(stay) == 3
        assert streams(service) == before + 3


def test_runs_of_a_client() -> None:
    """One client has so many runs: one more is 429 with a time to wait, and an EventSource is told to come back."""
    client = {"X-Forwarded-For": "198.51.100.7", "Content-Type": "application/json"}
    body = json.dumps({"prompt": "a " * 500}).encode()
    with running_service(
        max_producers_per_client=2, echo_interval=10.0, drain_seconds=0.2, graceful_timeout=5
    ) as server:
        runs = [server.request("POST", "/generate", body, client) for _ in range(2)]
        assert [run.status for run in runs] == [202, 202]
        refused = server.request("POST", "/generate", body, client)
        assert (refused.status, refused.json()["limit"]) == (429, "max_producers_per_client")
        assert int(refused.headers["retry-after"]) >= 1
        upload = {**client, "Content-Type": "application/octet-stream"}
        assert server.request("POST", "/jobs?name=a", b"abc", upload).status == 429
        with server.reader("/generate?prompt=a", headers={"X-Forwarded-For": "198.51.100.7", **CLOSE}) as reader:
            assert is_soft(reader)
        # Another client has its own, and who stops one has room again.
        other = server.request("POST", "/generate", body, {**client, "X-Forwarded-For": "198.51.100.8"})
        assert other.status == 202
        assert server.request("POST", runs[0].json()["stop"], b"").status == 200
        wait_until(
            lambda: server.request("POST", "/generate", body, client).status == 202,
            "the place of the stopped run is free",
        )
        for answer in (runs[1], other):
            server.request("POST", answer.json()["stop"], b"")


def answer_to(server: Server, head: bytes) -> bytes:
    """Send the head of a request and return the status of the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(server.socket_path)
        connection.sendall(head)
        return connection.recv(65536)[9:12]


def test_the_head_of_a_request(service: Server) -> None:
    """Address, header field and number of fields have a bound each: at it the request is served, past it refused."""
    line = b"GET /healthz?%b HTTP/1.1\r\n"
    rest = 1000 - len(line % b"") + 2
    assert answer_to(service, line % (b"x" * rest) + b"Host: x\r\n\r\n") == b"200"
    assert answer_to(service, line % (b"x" * (rest + 1)) + b"Host: x\r\n\r\n") == b"414"
    field = b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n"
    assert answer_to(service, field % (b"x" * 400)) == b"200"
    assert answer_to(service, field % (b"x" * 600)) == b"431"
    fields = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%b\r\n"
    assert answer_to(service, fields % b"".join(b"A%d: x\r\n" % number for number in range(19))) == b"200"
    assert answer_to(service, fields % b"".join(b"A%d: x\r\n" % number for number in range(20))) == b"431"


def test_what_a_request_says(service: Server) -> None:
    """Body, batch, topics of a stream and the name of a topic: at the bound it is served, past it a final 4xx."""
    json_type, lines_type = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}
    empty = len(json.dumps({"topic": "a", "data": ""}))

    def publish(size: int) -> int:
        return service.request(
            "POST", "/publish", json.dumps({"topic": "a", "data": "x" * (size - empty)}).encode(), json_type
        ).status

    line = b'{"topic":"a","data":1}\n'
    topics = "&".join(f"topic={number}" for number in range(5))

    assert (publish(1000), publish(1001)) == (200, 413)
    assert service.request("POST", "/publish", line * 3, lines_type).status == 200
    assert service.request("POST", "/publish", line * 4, lines_type).status == 413
    with service.reader(f"/events?{topics}") as reader:
        assert reader.status == 200
    assert service.request("GET", f"/events?{topics}&topic=5").status == 400
    for size, status in ((200, 200), (201, 422)):
        body = json.dumps({"topic": "x" * size, "data": ""}).encode()
        assert service.request("POST", "/publish", body, json_type).status == status
