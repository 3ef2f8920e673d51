"""The real service behind the shipped nginx configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from sse_core.testing import StreamReader
from sse_kit.app import STATIC
from tests.nginx.client import Client
from tests.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(keepalive=0.2, drain_seconds=0.2) as stack:
        yield stack


def reader(stack: Stack, target: str, *, last_event_id: str | None = None) -> StreamReader:
    """Open a stream through nginx."""
    return StreamReader(("127.0.0.1", stack.nginx.port), target, last_event_id=last_event_id)


def test_resume(stack: Stack) -> None:
    """A stream through nginx that is opened again with its last id goes on exactly there."""
    with reader(stack, "/events?topic=resume") as first:
        for number in range(10):
            stack.publish("resume", number)
        seen = first.read(4)
    last = seen[-1].id
    assert last is not None
    with reader(stack, "/events?topic=resume", last_event_id=last) as second:
        seen += second.read(6)

    assert [event.data for event in seen] == [str(number) for number in range(10)]


def test_keepalives_pass(stack: Stack) -> None:
    """A quiet stream is kept alive by blocks that pass nginx at once, and that move the client's cursor."""
    with reader(stack, "/events?topic=quiet") as quiet:
        event_id = stack.publish("another", 1)

        quiet.read_until_id(event_id)


def test_the_log_of_this_very_server(stack: Stack) -> None:
    """nginx's access log is a stream: a request appears in it line by line, through the same nginx."""
    with reader(stack, "/logs/nginx") as log, Client(stack.nginx.port) as client:
        client.get("/readyz?mark=here").body()
        for event in log:
            assert event.data is not None
            line = json.loads(json.loads(event.data)["line"])
            if line["path"] == "/readyz?mark=here":
                break

    assert (event.event, line["status"]) == ("line", 200)


def test_a_drain_passes() -> None:
    """What a stopping service tells its streams arrives through nginx: when to come back, then the end."""
    with running_stack(drain_seconds=0.2) as other, reader(other, "/events?topic=a") as stream:
        other.publish("a", 1)
        stream.read()
        other.service.stop()

        assert stream.read_to_end() == []
        assert stream.retry is not None
        assert 1000 <= stream.retry <= 5000


def test_a_head_request_ends(stack: Stack) -> None:
    """HEAD on a stream is its head and no stream, and the connection can go on."""
    with Client(stack.nginx.port) as client:
        client.send("HEAD", "/events?topic=a")
        head = client.response()

        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream"
        assert client.get("/healthz").status == 200


def test_the_service_explains_its_own_bound(stack: Stack) -> None:
    """A body just beyond the service's bound is refused by the service, which names the bound."""
    with Client(stack.nginx.port) as client:
        client.send("POST", "/publish", {"Content-Type": "application/json"}, b" " * ((1 << 20) + 1))
        problem = client.response().problem()

        assert (problem["status"], problem["limit"]) == (413, "max_body_bytes")


def test_all_that_the_page_names_is_there(stack: Stack) -> None:
    """Every file that the page and its scripts load is served, with a browser's idea of its type, and none is in vain."""
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    waiting, seen = [("/", "")], set()
    while waiting:
        base, name = waiting.pop()
        path = base + name
        if path in seen:
            continue
        seen.add(path)
        with Client(stack.nginx.port) as client:
            response = client.get(quote(path))
            text = response.body().decode()
            assert response.status == 200, path
            assert "default-src 'self'" in response.headers["content-security-policy"]
            if name:
                assert response.headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]]
        waiting += [(path.rpartition("/")[0] + "/", found) for found in re.findall(r'from "\./([^"]+)"', text)]
        waiting += [("/", found) for found in re.findall(r'(?:src|href)="(static/[^"]+)"', text)]

    assert seen == {"/", *(f"/static/{file.name}" for file in STATIC.iterdir() if file.name != "index.html")}
