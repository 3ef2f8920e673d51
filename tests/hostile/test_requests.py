"""Requests that are made to break out of what they are in: a header, a folder, a stream. Through gunicorn and through nginx."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redisserver import wait_until
from tests.stack import Stack, running_stack

SECRET = "top-secret-text-of-a-file-nobody-may-read"

#: Sends bytes to a server and returns what comes back, to the end.
Exchange = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(keepalive=0.2, drain_seconds=0.2) as stack:
        (stack.service.folder / "secret").write_text(SECRET)
        yield stack


@pytest.fixture(params=["gunicorn", "nginx"])
def exchange(request: pytest.FixtureRequest, stack: Stack) -> Exchange:
    """To gunicorn itself, or through nginx."""

    def send(data: bytes) -> bytes:
        if request.param == "gunicorn":
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            connection.connect(stack.service.socket_path)
        else:
            connection = socket.create_connection(("127.0.0.1", stack.nginx.port), timeout=30)
        with connection:
            connection.sendall(data)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    return send


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]).encode()


@pytest.mark.parametrize("prefix", ["/static/", "/logs/", "/runs/", "/watch/", "/n/default/", "/"])
@pytest.mark.parametrize(
    "climb",
    [
        "../" * 8 + "{place}",
        "%2e%2e/" * 8 + "{place}",
        "..%2f" * 8 + "{place}",
        "%2e%2e%2f" * 8 + "{place}",
        "..%252f" * 8 + "{place}",
        "..%5c" * 8 + "{place}",
        "%c0%ae%c0%ae/" * 8 + "{place}",
        "/{place}",
        "%2f{place}",
        "....//" * 8 + "{place}",
        "{place}%00.js",
        "..%00/{place}",
    ],
)
def test_no_path_leads_out_of_its_folder(stack: Stack, exchange: Exchange, prefix: str, climb: str) -> None:
    """However a path climbs, encoded once or twice or not at all, no file but those that are served comes back."""
    for place in (str(stack.service.folder / "secret").lstrip("/"), "etc/passwd"):
        answer = exchange(get(prefix + climb.format(place=place)))

        assert answer[9:10] == b"4" or answer.startswith(b"HTTP/1.1 30"), answer[:100]
        assert SECRET.encode() not in answer
        assert b"root:" not in answer


@pytest.mark.parametrize(
    "breaking", ["%0d%0aSet-Cookie:%20x=1", "%0aSet-Cookie:%20x=1", "%0d%0a%0d%0aHTTP/1.1%20200%20OK"]
)
@pytest.mark.parametrize(
    "path",
    ["/runs/{}", "/logs/{}", "/watch/{}", "/events?topic={}", "/n/{}/events", "/generate?prompt={}&provider={}", "/{}"],
)
def test_no_parameter_breaks_out_of_its_header(exchange: Exchange, path: str, breaking: str) -> None:
    """A line end in a path or a parameter makes neither a header field nor a second response of its own."""
    # Of what would be a stream the refusal is enough, which names the parameter.
    answer = exchange(get(path.replace("{}", "a" + breaking), "Accept: application/json"))
    head = answer.partition(b"\r\n\r\n")[0]

    assert b"\nSet-Cookie" not in head
    assert answer.count(b"HTTP/1.1 ") <= 1 or b"HTTP/1.1 200 OK" not in answer.partition(b"\r\n\r\n")[2][:20]


@pytest.mark.parametrize("name", ["Origin", "Last-Event-ID", "X-Request-ID", "Host", "Referer", "X-Forwarded-Host"])
def test_no_field_of_a_request_breaks_out(exchange: Exchange, name: str) -> None:
    """What is echoed of a request's header never makes a field of its own, raw line ends and other controls included."""
    for value in ("a\rSet-Cookie: x=1", "a\nSet-Cookie: x=1", "a\x00b", "a\x0bSet-Cookie: x=1", "a\x85Set-Cookie: x=1"):
        head = exchange(get("/healthz", f"{name}: {value}")).partition(b"\r\n\r\n")[0]

        assert b"\nSet-Cookie" not in head
        assert b"\rSet-Cookie" not in head


def test_a_request_behind_a_stream_is_nobodys(stack: Stack) -> None:
    """Through nginx, what is pipelined behind a stream is not answered within it, and nothing of it happens."""
    body = json.dumps({"topic": "victim", "data": "pipelined"}).encode()
    second = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with socket.create_connection(("127.0.0.1", stack.nginx.port), timeout=30) as connection:
        connection.sendall(b"GET /events?topic=victim HTTP/1.1\r\nHost: x\r\n\r\n" + second + body)
        received = b""
        while b"id: " not in received:
            received += connection.recv(65536)
        connection.sendall(second + body)
        event_id = stack.publish("victim", "real")
        while event_id.encode() not in received or b"real" not in received:
            received += connection.recv(65536)

    assert received.count(b"HTTP/1.1 ") == 1
    assert b"pipelined" not in received


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b" Content-Length: 5\r\n",
    ],
)
def test_no_request_hides_in_another(exchange: Exchange, smuggled: bytes) -> None:
    """Where the end of a request could be read in two ways it is refused, so that nothing can hide behind it."""
    hidden = b"0\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(b"POST /publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + smuggled + b"\r\n" + hidden)

    assert answer[9:10] in (b"4", b"5")
    assert b'"openapi"' not in answer


def test_a_compression_bomb_is_not_unpacked(stack: Stack, exchange: Exchange, tmp_path: Path) -> None:
    """A body that would grow a thousandfold is refused by its Content-Encoding, before a byte of it is read."""
    bomb = zlib.compress(b"\0" * (16 << 20), 9)
    for path, media_type in (("/publish", "application/json"), ("/jobs?name=a", "application/octet-stream")):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media_type}\r\n"
            f"Content-Encoding: deflate\r\nContent-Length: {len(bomb)}\r\n\r\n"
        )
        answer = exchange(head.encode() + bomb)

        assert answer.startswith(b"HTTP/1.1 415 ")
        assert b"application/problem+json" in answer


@pytest.mark.soak
def test_nginx_does_not_wait_for_a_head(stack: Stack) -> None:
    """Clients that send their head a byte at a time are cut off by nginx, and gunicorn never hears of them."""
    before = metric(stack, "sse_kit_requests_late_total")
    slow = [socket.create_connection(("127.0.0.1", stack.nginx.port), timeout=60) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")

    def all_cut() -> bool:
        for connection in slow[:]:
            try:
                connection.send(b"x")
            except OSError:
                slow.remove(connection)
                connection.close()
        return not slow

    wait_until(all_cut, "all are cut off", timeout=90)
    assert stack.service.request("GET", "/healthz").status == 200
    assert metric(stack, "sse_kit_requests_late_total") == before


def metric(stack: Stack, name: str) -> float:
    for line in stack.service.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise LookupError(name)
