"""Everything but streams through the shipped nginx configuration."""

from __future__ import annotations

import gzip
import json
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.nginx.client import STRANGER, TIMEOUT, Client
from tests.nginx.upstream import STREAM_HEAD, Request, Upstream, reply
from tests.nginx_server import Nginx

EVENT = b'{"topic":"a","data":1}'


def last_line(nginx: Nginx, *, count: int = 1) -> dict[str, Any]:
    """Wait for so many lines of the access log to be there as a whole, and return the newest."""
    deadline = time.monotonic() + TIMEOUT
    while (text := nginx.access_log.read_text("utf-8", "surrogateescape")).count("\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    line: dict[str, Any] = json.loads(text.splitlines()[-1])
    return line


class TestUpstream:
    def test_connections_are_reused(self, nginx: Nginx, upstream: Upstream) -> None:
        """One publish after another goes to the service over one connection."""
        with Client(nginx.port) as client:
            for _ in range(5):
                client.send("POST", "/publish", body=EVENT)
                client.response().body()

        assert [request.connection for request in upstream.requests] == [1] * 5

    def test_who_asked(self, nginx: Nginx, upstream: Upstream) -> None:
        """The service learns the client's address, scheme and name from nginx, and never from the client."""
        forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test"}
        with Client(nginx.port, source=STRANGER) as client:
            client.get("/", forged).body()
        headers = upstream.requests[0].headers

        assert headers["x-forwarded-for"] == STRANGER
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-host"] == headers["host"] == "example.test:8080"
        assert headers["x-request-id"] == last_line(nginx)["request_id"]

    def test_behind_another_proxy(self, upstream: Upstream) -> None:
        """A proxy that is listed is believed who asked and how, but nothing that the client has put before its word."""
        with (
            Nginx(upstream.address, proxies=["127.0.0.2"]) as nginx,
            Client(nginx.port, source=STRANGER) as balancer,
            Client(nginx.port) as other,
        ):
            balancer.get("/", {"X-Forwarded-For": "6.6.6.6, 192.0.2.7", "X-Forwarded-Proto": "https"}).body()
            balancer.get("/", {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "gopher"}).body()
            other.get("/", {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}).body()

        told = [
            (request.headers["x-forwarded-for"], request.headers["x-forwarded-proto"]) for request in upstream.requests
        ]
        assert told == [("192.0.2.7", "https"), ("192.0.2.7", "http"), ("127.0.0.1", "http")]

    def test_a_post_is_never_repeated(self, nginx: Nginx, upstream: Upstream) -> None:
        """A publish whose answer is lost is not sent a second time: it may have happened, and the client is told so."""
        upstream.answer = lambda request, connection: False
        with Client(nginx.port) as client:
            client.send("POST", "/publish", body=EVENT)
            response = client.response()

            assert response.status == 502
            assert "may or may not have happened" in response.problem()["detail"]
            assert len(upstream.requests) == 1


class TestProblems:
    def test_the_service_is_down(self, alone: Nginx) -> None:
        """Away from streams a service that is down is a 502 with a problem document, and says when to try again."""
        with Client(alone.port) as client:
            response = client.get("/")
            problem = response.problem()

            assert response.status == problem["status"] == 502
            assert problem["title"] == "Bad Gateway"
            assert int(response.headers["retry-after"]) > 0
            assert response.headers["cache-control"] == "no-store"

    def test_the_service_is_down_after_a_large_body(self, alone: Nginx) -> None:
        """What came with a large body is told all the same why it failed: the length that was taken once is no fault."""
        with Client(alone.port) as client:
            body = b"x" * (1 << 20)
            client.send("POST", "/publish", {"Content-Length": str(len(body))}, body)
            response = client.response()

            assert response.status == response.problem()["status"] == 502

    def test_a_body_that_is_too_large(self, nginx: Nginx, upstream: Upstream) -> None:
        """A body beyond the bound is refused by its length, before it is read and without the service."""
        with Client(nginx.port) as client:
            client.send("POST", "/publish", {"Content-Length": str(64 << 20)})
            response = client.response()

            assert response.status == response.problem()["status"] == 413
            assert upstream.requests == []

    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "/events?topic=a",
            "/n/orders/events?topic=a",
            "/n/a/b/publish",
            "/session",
            "/runs/x",
            "/runs/x/stop",
            "/demo/ticker",
        ],
    )
    def test_a_large_body_where_none_is_expected(self, nginx: Nginx, target: str) -> None:
        """Only what takes events, prompts and files takes more than a little, a stream's address neither."""
        with Client(nginx.port) as client:
            client.send("POST", target, body=b"x" * 20_000)
            response = client.response()

            assert response.status == response.problem()["status"] == 413

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            pytest.param(b"NONSENSE\r\n\r\n", 400, id="request line"),
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 400, id="long header"),
            pytest.param(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="long address"),
            pytest.param(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="trace"),
            pytest.param(b"GET /.problem HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="nginx's own address"),
        ],
    )
    def test_what_is_no_request(self, nginx: Nginx, upstream: Upstream, request_: bytes, status: int) -> None:
        """What nginx refuses by itself is the client's fault in a problem document, never a page or a 500."""
        with Client(nginx.port) as client:
            client.socket.sendall(request_)
            response = client.response()

            assert response.status == response.problem()["status"] == status
            assert upstream.requests == []

    def test_the_services_own_problems_pass(self, nginx: Nginx, upstream: Upstream) -> None:
        """A problem document of the service is never replaced by nginx's."""
        upstream.answer = reply(b'{"title":"own"}', status="503 x", content_type="application/problem+json")
        with Client(nginx.port) as client:
            response = client.get("/readyz")

            assert response.status == 503
            assert response.problem() == {"title": "own"}

    @pytest.mark.parametrize(
        "target",
        [
            "/metrics",
            "/topics",
            "/topics?limit=1",
            "/topics/a/b",
            "/n/orders/topics",
            "/n/orders/topics/a",
            "/x/../topics",
        ],
    )
    def test_what_runs_is_not_for_strangers(self, nginx: Nginx, target: str) -> None:
        """Only trusted addresses read the counters, and who listens to what."""
        with Client(nginx.port) as client, Client(nginx.port, source=STRANGER) as stranger:
            refused = stranger.get(target)

            assert client.get(target).status == 200
            assert refused.status == refused.problem()["status"] == 403


class TestLimits:
    def test_changing_things_too_fast(self, nginx: Nginx, upstream: Upstream) -> None:
        """An address that publishes, signs in or stops runs far beyond its rate gets 429 and when to try again."""
        targets = ["/publish", "/n/orders/publish", "/session", "/runs/x/stop"] * 75
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port, source=STRANGER)) for _ in targets]
            for client, target in zip(clients, targets, strict=True):
                client.send("POST", target, body=EVENT)
            responses = [client.response() for client in clients]
            refused = [each for each in zip(targets, responses, strict=True) if each[1].status == 429]

            assert {response.status for response in responses} == {200, 429}
            assert {target for target, _ in refused} == set(targets)
            # What was let through is done.
            assert len(upstream.requests) == len(responses) - len(refused)
            assert refused[0][1].problem()["title"] == "Too Many Requests"
            assert refused[0][1].headers["retry-after"] == "1"

    def test_too_many_streams_of_one_address(self, nginx: Nginx, upstream: Upstream) -> None:
        """One stream too many of an address is a soft answer, and so an EventSource waits for its turn."""

        def stream(_: object, connection: Any) -> bool:
            connection.sendall(STREAM_HEAD)
            connection.recv(1)
            return False

        upstream.answer = stream
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port, source=STRANGER)) for _ in range(201)]
            for client in clients:
                client.send("GET", "/events?topic=a")
            responses = [client.response() for client in clients]
            soft = [response for response in responses if "content-length" in response.headers]

            assert {response.status for response in responses} == {200}
            assert len(soft) == 1
            assert soft[0].body().startswith(b"retry: ")
            assert last_line(nginx)["limited"] == "connections"

            # Who asks by POST is no EventSource.
            client = stack.enter_context(Client(nginx.port, source=STRANGER))
            client.send("POST", "/generate", {"Accept": "text/event-stream"}, b"{}")
            hard = client.response()

            assert hard.status == hard.problem()["status"] == 429
            assert hard.headers["retry-after"] == "1"

    def test_reconnecting_too_fast(self, nginx: Nginx, upstream: Upstream) -> None:
        """An address that opens streams in a loop is slowed down and then sent away softly."""
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port, source=STRANGER)) for _ in range(260)]
            for client in clients:
                client.send("GET", "/logs/nginx")
            bodies = [client.response() for client in clients]
            soft = [response for response in bodies if response.body().startswith(b"retry: ")]

            assert {response.status for response in bodies} == {200}
            assert soft
            assert len(upstream.requests) == len(bodies) - len(soft)

    def test_a_storm_waits(self, upstream: Upstream) -> None:
        """More streams at once than the service is to get at once wait in nginx, whoever opens them, and none is sent away."""
        sooner = ("snippets/location/stream.conf", "delay=1000", "delay=5")
        with Nginx(upstream.address, arrival_rate=2, replace=sooner) as nginx, ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port)) for _ in range(15)]
            for client in clients:
                client.send("GET", "/events?topic=a")

            assert {client.response().body() for client in clients} == {b"ok\n"}
            last_line(nginx, count=15)
            lines = [json.loads(line) for line in nginx.access_log.read_text().splitlines()]
            assert "delayed" in {line["limited"] for line in lines}

    def test_a_trusted_address_has_no_limit(self, nginx: Nginx, upstream: Upstream) -> None:
        """The limits per address do not bind a load test or a health check from a trusted address."""
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port)) for _ in range(300)]
            for client in clients:
                client.send("POST", "/publish", body=EVENT)

            assert {client.response().status for client in clients} == {200}


class TestUploads:
    def test_a_slow_upload_waits_in_nginx(self, nginx: Nginx, upstream: Upstream) -> None:
        """A file that comes slowly holds nothing of the service, which gets it whole and at once, with its length."""
        with Client(nginx.port) as client:
            client.send(
                "POST", "/jobs?name=x", {"Content-Length": "300000", "Content-Type": "application/octet-stream"}
            )
            client.socket.sendall(b"a" * 299_999)
            # A request after it on another connection is through before the upload has begun for the service.
            with Client(nginx.port) as other:
                other.get("/readyz").body()
            assert ([request.target for request in upstream.requests], upstream.connections) == (["/readyz"], 1)
            client.socket.sendall(b"b")

            assert client.response().status == 200
        request = upstream.requests[-1]
        assert (request.target, len(request.body), request.body[-2:]) == ("/jobs?name=x", 300_000, b"ab")

    def test_in_chunks(self, nginx: Nginx, upstream: Upstream) -> None:
        """A file whose length the client does not know is counted by nginx, and told to the service with its length."""
        with Client(nginx.port) as client:
            client.send("POST", "/jobs?name=x", {"Transfer-Encoding": "chunked"})
            client.socket.sendall(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

            assert client.response().status == 200
        assert (upstream.requests[0].headers["content-length"], upstream.requests[0].body) == ("5", b"abcde")

    @pytest.mark.parametrize(("size", "status"), [(65 << 20, 100), ((65 << 20) + 1, 413)])
    def test_the_largest_file(self, nginx: Nginx, upstream: Upstream, size: int, status: int) -> None:
        """A file beyond nginx's own bound is refused by its length before a byte of it is sent; one at it is not."""
        with Client(nginx.port) as client:
            client.send("POST", "/jobs?name=x", {"Content-Length": str(size), "Expect": "100-continue"})
            response = client.response()

            assert response.status == status
            assert status == 100 or response.problem()["status"] == 413
        assert upstream.requests == []

    def test_too_many_at_a_time(self, nginx: Nginx, upstream: Upstream) -> None:
        """One upload too many of an address is refused, and not softly; the others go on."""
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port, source=STRANGER)) for _ in range(5)]
            for client in clients:
                client.send("POST", "/jobs?name=x", {"Content-Length": "2", "Expect": "100-continue"})
            responses = [client.response() for client in clients]
            refused = responses.index(next(response for response in responses if response.status == 429))

            assert sorted(response.status for response in responses) == [100, 100, 100, 100, 429]
            assert responses[refused].problem()["status"] == 429
            for number, client in enumerate(clients):
                if number != refused:
                    client.socket.sendall(b"ab")
                    assert client.response().status == 200
        assert [request.body for request in upstream.requests] == [b"ab"] * 4


class TestCredentials:
    def test_they_pass_and_are_not_logged(self, nginx: Nginx, upstream: Upstream) -> None:
        """Tokens and cookies reach the service on every kind of route and come back from it; no log of nginx has them."""

        def answer(request: Request, connection: socket.socket) -> bool:
            # The last one is lost, which is an error for nginx to log.
            if request.target == "/events?topic=lost":
                return False
            connection.sendall(b"HTTP/1.1 204 No Content\r\nSet-Cookie: sse-kit=secret-3; HttpOnly\r\n\r\n")
            return True

        upstream.answer = answer
        targets = ["/events?topic=a", "/generate?prompt=a", "/jobs?name=x", "/session", "/publish", "/x"]
        secrets = {"Authorization": "Bearer secret-1", "Cookie": "sse-kit=secret-2"}
        with Client(nginx.port) as client:
            set_cookies = [client.get(target, secrets).headers["set-cookie"] for target in targets]
            client.get("/events?topic=lost", secrets).body()
            assert last_line(nginx, count=len(targets) + 1)["path"] == "/events?topic=lost"

        assert set_cookies == ["sse-kit=secret-3; HttpOnly"] * len(targets)
        for request in upstream.requests:
            assert (request.headers["authorization"], request.headers["cookie"]) == (
                "Bearer secret-1",
                "sse-kit=secret-2",
            )
        assert "secret" not in nginx.access_log.read_text()
        assert "upstream prematurely closed" in nginx.errors.read_text()
        assert "secret" not in nginx.errors.read_text()


class TestCompression:
    def test_documents_are_compressed(self, nginx: Nginx, upstream: Upstream) -> None:
        """What is no stream is compressed for a client that accepts it."""
        upstream.answer = reply(b'{"a":"%s"}' % (b"x" * 5000), content_type="application/json")
        with Client(nginx.port) as client:
            response = client.get("/openapi.json", {"Accept-Encoding": "gzip"})

            assert response.headers["content-encoding"] == "gzip"
            assert len(gzip.decompress(response.body())) == 5008


class TestAccessLog:
    def test_a_line_is_there_when_its_request_has_ended(self, nginx: Nginx) -> None:
        """Whoever tails the log sees a request as soon as it is answered: nothing is held back."""
        with Client(nginx.port) as client:
            client.get("/readyz?x=1").body()
            line = last_line(nginx)

        assert (line["method"], line["path"], line["status"], line["upstream_status"]) == (
            "GET",
            "/readyz?x=1",
            200,
            "200",
        )

    def test_prompts_are_not_logged(self, nginx: Nginx) -> None:
        """What somebody asks a language model stays between them: the log has the address without the question."""
        with Client(nginx.port) as client:
            for number, path in enumerate(("/generate", "//generate", "/%67enerate", "/x/../generate"), 1):
                client.get(f"{path}?prompt=secret&provider=echo").body()
                assert last_line(nginx, count=number)["path"] == "/generate?...", path

    def test_a_soft_answer_can_be_told(self, alone: Nginx) -> None:
        """The log tells a soft answer from a stream: its status is 200, the upstream's is not."""
        with Client(alone.port) as client:
            client.get("/events?topic=a").body()
            line = last_line(alone)

        assert (line["status"], line["upstream_status"]) == (200, "502")

    @pytest.mark.parametrize("agent", ['"quoted"', "back\\slash", "tab\there", "\xff\xfe", '","status":999,"x":"'])
    def test_hostile_headers_stay_in_their_field(self, nginx: Nginx, agent: str) -> None:
        """Whatever a client sends, its line is one JSON object with the same fields."""
        with Client(nginx.port) as client:
            client.get("/", {"User-Agent": agent}).body()
            line = last_line(nginx)

        assert line["status"] == 200
        assert line["user_agent"].encode("utf-8", "surrogateescape").decode("latin-1") == agent
