"""The real service behind the shipped nginx configuration."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from sse_core.testing import StreamReader
from sse_kit.app import STATIC
from tests.nginx.client import TIMEOUT, Client
from tests.ports import free_port
from tests.stack import Stack, running_stack

MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(keepalive=0.2, drain_seconds=0.2, max_upload_bytes=MOST_BYTES) as stack:
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


def test_tokens_come_while_the_answer_is_made(stack: Stack) -> None:
    """The words of an answer pass one by one, long before its end, which somebody else can decide meanwhile."""
    # Three minutes of an answer: what arrives of it did not wait for its end. As long as an address can be, too.
    with reader(stack, "/generate?prompt=" + "word+" * 1600) as answer:
        started, *words = answer.read(3)
        run = json.loads(started.data or "")["run"]
        with Client(stack.nginx.port) as client:
            client.send("POST", f"/runs/{run}/stop")
            stopped = json.loads(client.response().body())
        *_, last = answer.read_to_end()

    assert started.event == "started"
    assert [json.loads(word.data or "")["token"].strip() for word in words] == ["word", "word"]
    assert stopped == {"stopped": True}
    assert (last.event, json.loads(last.data or "")["reason"]) == ("done", "stopped")


def test_a_run_has_a_place(stack: Stack) -> None:
    """What is started by POST is streamed at its place, and who comes back after its end is told that there is no more."""
    with Client(stack.nginx.port) as client:
        client.send("POST", "/generate", {"Content-Type": "application/json"}, b'{"prompt": "one two"}')
        response = client.response()
        place = response.headers["location"]
        assert (response.status, json.loads(response.body())["events"]) == (202, place)
    with reader(stack, place) as run:
        *_, last = run.read_to_end()
    with Client(stack.nginx.port) as client:
        again = client.get(place, {"Last-Event-ID": last.id or ""})

    assert (last.event, again.status) == ("done", 204)


@pytest.mark.parametrize(("length", "status"), [(8190, 200), (8191, 414)])
def test_the_longest_address(stack: Stack, length: int, status: int) -> None:
    """The longest address that nginx takes is taken by the service as well, and one beyond is refused in words of ours."""
    target = "/healthz?x=" + "x" * (length - len("GET /healthz?x= HTTP/1.1"))
    with Client(stack.nginx.port) as client:
        response = client.get(target)

        assert response.status == status
        assert status == 200 or response.problem()["status"] == 414


def test_small_streams_pass(stack: Stack) -> None:
    """Streams made for one client pass to their end, and only to who accepts them."""
    with reader(stack, "/demo/ticker?n=2&interval=0.01") as ticker:
        ticks = [event.data for event in ticker.read_to_end()]
    with Client(stack.nginx.port) as client:
        refused = client.get("/demo/ticker", {"Accept": "text/html"})

    assert ticks[:3] == ["Message 1 of 2", "Message 2 of 2", "[DONE]"]
    assert refused.status == refused.problem()["status"] == 406


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_at_the_bound(stack: Stack, more: int) -> None:
    """A file as large as the service takes becomes a job; one byte more is refused by the service, which names the bound."""
    with Client(stack.nginx.port) as client:
        client.send("POST", "/jobs?name=x", {"Content-Type": "application/octet-stream"}, b"\n" * (MOST_BYTES + more))
        response = client.response()
        if more:
            problem = response.problem()
            assert (problem["status"], problem["limit"], problem["value"]) == (413, "max_upload_bytes", MOST_BYTES)
            return
        place = json.loads(response.body())["events"]
    with reader(stack, place) as job:
        *_, done = job.read_to_end()

    assert done.event == "done"
    assert json.loads(done.data or "")["lines"] == MOST_BYTES


def test_a_session_over_tls(tmp_path: Path) -> None:
    """Behind nginx with TLS the service knows that it is https and by which name: the cookie is for it alone."""
    token = "0123456789abcdef"
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    port = free_port()
    own = f"https://localhost:{port}"

    def ask(method: str, path: str, body: object, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT, context=trust)
        with closing(connection):
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
            return connection.getresponse()

    with running_stack(tls=(f"127.0.0.1:{port}", *files), tokens={"ann": token}) as secure:
        signed_in = ask("POST", "/session", {"token": token}, Origin=own)
        set_cookie = signed_in.headers["Set-Cookie"]
        cookie = set_cookie.partition(";")[0]
        event = {"topic": "a", "data": 1}
        statuses = [
            ask("POST", "/publish", event, Cookie=cookie, Origin=origin).status
            for origin in (own, "https://localhost", f"http://localhost:{port}")
        ]
        logs = secure.nginx.access_log.parent.glob("*")
        assert not [log for log in logs if token in log.read_text() or cookie in log.read_text()]

    assert set_cookie.startswith("__Host-sse-kit=v1.")
    assert "Secure" in set_cookie
    assert statuses == [200, 403, 403]


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
