"""Everything but streams through the shipped nginx configuration."""

from __future__ import annotations

import gzip
import json
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.nginx.client import STRANGER, TIMEOUT, Client
from tests.nginx.upstream import STREAM_HEAD, Upstream, reply
from tests.nginx_server import Nginx

EVENT = b'{"topic":"a","data":1}'


def last_line(nginx: Nginx) -> dict[str, Any]:
    """Wait for the newest line of the access log to be there as a whole."""
    deadline = time.monotonic() + TIMEOUT
    while not (text := nginx.access_log.read_text("utf-8", "surrogateescape")).endswith("\n"):
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
        """A proxy that is listed is believed who asked, but nothing that the client has put before its word."""
        with (
            Nginx(upstream.address, proxies=["127.0.0.2"]) as nginx,
            Client(nginx.port, source=STRANGER) as balancer,
            Client(nginx.port) as other,
        ):
            balancer.get("/", {"X-Forwarded-For": "6.6.6.6, 192.0.2.7"}).body()
            other.get("/", {"X-Forwarded-For": "6.6.6.6"}).body()

        assert [request.headers["x-forwarded-for"] for request in upstream.requests] == ["192.0.2.7", "127.0.0.1"]

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

    def test_a_body_that_is_too_large(self, nginx: Nginx, upstream: Upstream) -> None:
        """A body beyond the bound is refused by its length, before it is read and without the service."""
        with Client(nginx.port) as client:
            client.send("POST", "/publish", {"Content-Length": str(64 << 20)})
            response = client.response()

            assert response.status == response.problem()["status"] == 413
            assert upstream.requests == []

    @pytest.mark.parametrize("target", ["/", "/events?topic=a", "/n/orders/events?topic=a", "/n/a/b/publish"])
    def test_only_publish_takes_a_large_body(self, nginx: Nginx, target: str) -> None:
        """Where no body is expected the bound is small, on a stream's address too."""
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
    @pytest.mark.parametrize("target", ["/publish", "/n/orders/publish"])
    def test_publishing_too_fast(self, nginx: Nginx, upstream: Upstream, target: str) -> None:
        """An address that publishes far beyond its rate gets 429 and when to try again; what was let through is done."""
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port, source=STRANGER)) for _ in range(300)]
            for client in clients:
                client.send("POST", target, body=EVENT)
            responses = [client.response() for client in clients]
            refused = [response for response in responses if response.status == 429]

            assert {response.status for response in responses} == {200, 429}
            assert len(upstream.requests) == len(responses) - len(refused)
            assert refused[0].problem()["title"] == "Too Many Requests"
            assert refused[0].headers["retry-after"] == "1"

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

    def test_a_trusted_address_has_no_limit(self, nginx: Nginx, upstream: Upstream) -> None:
        """The limits per address do not bind a load test or a health check from a trusted address."""
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(nginx.port)) for _ in range(300)]
            for client in clients:
                client.send("POST", "/publish", body=EVENT)

            assert {client.response().status for client in clients} == {200}


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
