"""Streams through the shipped nginx configuration."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from sse_kit.nginxkit.program import Program
from tests.nginx.client import TIMEOUT, Client
from tests.nginx.upstream import OpenStream, Upstream, reply
from tests.nginx_server import Nginx, latest_nginx, machine_s_nginx

STREAMS = [
    "/events?topic=a",
    "/n/orders.1/events?topic=a",
    "/logs/nginx",
    "/demo/ticker?n=5",
    "/watch/sensors:1/temperature",
    "/runs/x1",
    "/generate?prompt=hello",
]
#: What answers a POST with a stream if it is asked to.
POSTS = ["/generate", "/jobs?name=x"]


@pytest.fixture(params=[machine_s_nginx, latest_nginx], ids=["machine's", "latest"])
def program(request: pytest.FixtureRequest) -> Program:
    """Each of these facts holds for both."""
    found: Program = request.param()
    return found


class TestPassing:
    @pytest.mark.parametrize("target", STREAMS)
    def test_each_event_arrives_while_the_stream_is_open(self, nginx: Nginx, upstream: Upstream, target: str) -> None:
        """An event is passed on when it comes, however small, and the stream goes on."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            response = client.get(target)
            for number in range(3):
                event = f"data: {number}\n\n".encode()
                stream.write(event)

                assert response.chunk() == event

    @pytest.mark.parametrize("target", STREAMS)
    def test_nothing_is_compressed(self, nginx: Nginx, upstream: Upstream, target: str) -> None:
        """A stream is never compressed, whatever the client accepts, and the service is not asked to."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            response = client.get(target, {"Accept-Encoding": "gzip, br"})
            event = b"data: " + b"x" * 8000 + b"\n\n"
            stream.write(event)
            stream.end()

            assert response.body() == event
            assert "content-encoding" not in response.headers
            assert "accept-encoding" not in upstream.requests[0].headers

    @pytest.mark.parametrize("target", POSTS)
    def test_the_stream_that_answers_a_post(self, nginx: Nginx, upstream: Upstream, target: str) -> None:
        """A stream that answers a POST passes event by event and uncompressed, too, and its request has come whole."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            client.send(
                "POST", target, {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}, b'{"prompt":"hello"}'
            )
            response = client.response()
            for number in range(3):
                event = f"data: {number}\n\n".encode()
                stream.write(event)

                assert response.chunk() == event
            assert "content-encoding" not in response.headers
            (request,) = upstream.requests
            assert (request.method, request.target, request.body) == ("POST", target, b'{"prompt":"hello"}')
            assert request.headers["x-forwarded-for"] == "127.0.0.1"
            assert "accept-encoding" not in request.headers

    def test_the_head_is_the_services(self, nginx: Nginx, upstream: Upstream) -> None:
        """The head of a stream passes unchanged but for what speaks to nginx itself."""
        OpenStream(upstream)
        with Client(nginx.port) as client:
            response = client.get("/events?topic=a")

            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            assert "x-accel-buffering" not in response.headers

    def test_last_event_id_reaches_the_service(self, nginx: Nginx, upstream: Upstream) -> None:
        """The cursor of a browser that reconnects passes, and so does the one in the query."""
        OpenStream(upstream)
        with Client(nginx.port) as client:
            client.get("/events?topic=a&last_event_id=0-0", {"Last-Event-ID": "7-1"})

            assert upstream.requests[0].headers["last-event-id"] == "7-1"
            assert upstream.requests[0].target == "/events?topic=a&last_event_id=0-0"

    def test_the_end_passes(self, nginx: Nginx, upstream: Upstream) -> None:
        """A stream that the service ends is ended for the client too, and all before it has arrived."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            response = client.get("/events?topic=a")
            stream.write(b"retry: 1500\n\n")
            stream.end()

            assert response.body() == b"retry: 1500\n\n"

    def test_a_client_that_leaves_ends_its_stream(self, nginx: Nginx, upstream: Upstream) -> None:
        """The service learns at once that a client has gone: no event is written for nobody."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            client.get("/events?topic=a")

        assert stream.left.wait(TIMEOUT)

    def test_over_http_1_0(self, nginx: Nginx, upstream: Upstream) -> None:
        """A client without chunked coding gets the same bytes until the connection ends."""
        stream = OpenStream(upstream)
        with Client(nginx.port) as client:
            client.socket.sendall(b"GET /events?topic=a HTTP/1.0\r\n\r\n")
            stream.write(b"data: 1\n\n")
            stream.end()
            received = b"".join(iter(lambda: client.socket.recv(65536), b""))

            assert received.endswith(b"\r\n\r\ndata: 1\n\n")


class TestSoftAnswers:
    @pytest.mark.parametrize("target", STREAMS)
    def test_when_the_service_is_down(self, alone: Nginx, target: str) -> None:
        """A stream that nginx cannot open is an answer that keeps an EventSource alive: 200, one retry, the end."""
        with Client(alone.port) as client:
            response = client.get(target, {"Origin": "https://app.example"})
            body = response.body().decode()

            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            assert response.headers["cache-control"] == "no-cache, no-store"
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert response.headers["access-control-allow-credentials"] == "true"
            assert response.headers["vary"] == "Origin"
            assert response.headers["connection"] == "close"
            assert body.startswith("retry: ")
            assert body.endswith("\n\n")
            assert body.count("\n") == 2

    def test_no_cors_headers_without_an_origin(self, alone: Nginx) -> None:
        """A request from the page's own origin gets no header that names one."""
        with Client(alone.port) as client:
            response = client.get("/events?topic=a")

            assert not [name for name in response.headers if name.startswith("access-control")]

    def test_clients_come_back_spread(self, alone: Nginx) -> None:
        """Those who are sent away together do not come back together, nor sooner or later than the hub would tell them."""
        delays = set()
        for _ in range(60):
            with Client(alone.port) as client:
                delays.add(int(client.get("/events?topic=a").body().split()[1]))

        assert len(delays) > 5
        assert min(delays) >= 1000
        assert max(delays) <= 5000

    def test_when_the_service_hangs_up(self, nginx: Nginx, upstream: Upstream) -> None:
        """A service that dies before it answers is a soft answer too."""
        upstream.answer = lambda request, connection: False
        with Client(nginx.port) as client:
            response = client.get("/events?topic=a")

            assert response.status == 200
            assert response.body().startswith(b"retry: ")

    @pytest.mark.parametrize("target", ["/events?topic=a", "/runs/x/stop", *POSTS])
    def test_a_post_is_never_answered_softly(self, alone: Nginx, target: str) -> None:
        """Who starts or ends something is told that the service is down: 502, not a stream with nothing in it."""
        with Client(alone.port) as client:
            client.send("POST", target, {"Accept": "text/event-stream"}, b"{}")
            response = client.response()

            assert response.status == response.problem()["status"] == 502

    def test_when_nginx_has_no_connection_left(self, upstream: Upstream, program: Program) -> None:
        """nginx without a free connection for the upstream side of a stream sends its client away softly."""
        OpenStream(upstream)
        # Two are nginx's own and a stream takes two, so of an odd number one is left when its other side is wanted.
        few = ("site/connections.conf", "worker_connections 19456;", "worker_connections 17;")
        with Nginx(upstream.address, replace=few, program=program) as nginx, ExitStack() as clients:
            for _ in range(8 * (os.cpu_count() or 1)):
                response = clients.enter_context(Client(nginx.port)).get("/events?topic=a")
                if "content-length" in response.headers:
                    break

            assert response.status == 200
            assert response.body().startswith(b"retry: ")
            assert "worker_connections are not enough" in nginx.errors.read_text()

    def test_there_is_room_for_the_streams_it_was_set_up_for(self, upstream: Upstream, program: Program) -> None:
        """As many streams as were asked for are open at a time, and none of them is closed to make room for another."""
        OpenStream(upstream)
        with Nginx(upstream.address, workers=1, streams=60, program=program) as nginx, ExitStack() as clients:
            # All are connected before the first asks, as after a restart.
            waiting = [clients.enter_context(Client(nginx.port)) for _ in range(60)]
            for client in waiting:
                assert client.get("/events?topic=a").headers["content-type"] == "text/event-stream"

            assert "worker_connections" not in nginx.errors.read_text()

    @pytest.mark.parametrize(
        "status", ["400 Bad Request", "401 Unauthorized", "404 Not Found", "503 Service Unavailable"]
    )
    def test_the_services_own_answers_pass(self, nginx: Nginx, upstream: Upstream, status: str) -> None:
        """What the service answers on a stream's address is never replaced."""
        upstream.answer = reply(b'{"title":"own"}', status=status, content_type="application/problem+json")
        with Client(nginx.port) as client:
            response = client.get("/events?topic=a")

            assert response.status == int(status[:3])
            assert response.problem() == {"title": "own"}
