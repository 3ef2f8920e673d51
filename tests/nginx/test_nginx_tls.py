"""Streams and requests over TLS and HTTP/2, with both versions of nginx and so with both spellings of HTTP/2."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from sse_kit.app import STATIC
from sse_kit.nginxkit.program import Program
from sse_kit.nginxkit.site import TLS
from sse_kit.resources.page import CONTENT_SECURITY_POLICY
from tests.nginx.client import STRANGER, TIMEOUT, Response
from tests.nginx.conftest import Certificate
from tests.nginx.http2 import Http2
from tests.nginx.upstream import STREAM_HEAD, OpenStream, Upstream, reply
from tests.nginx_server import Nginx, latest_nginx, machine_s_nginx
from tests.ports import free_port

#: With every header that is of one connection only, and that HTTP/2 forbids (RFC 9113, section 8.2.2).
HOP_BY_HOP = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n"
    b"Proxy-Connection: close\r\nUpgrade: h2c\r\nX-Kept: yes\r\n\r\n"
)
#: What the service writes with the head. nginx 1.22 keeps the head of an answer over HTTP/2 to itself until a byte follows.
OPENING = b"retry: 1500\n\n"


@pytest.fixture(params=[machine_s_nginx, latest_nginx], ids=["machine's", "latest"])
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.param()
    return found


@pytest.fixture
def secure_port() -> int:
    return free_port()


@pytest.fixture
def nginx(upstream: Upstream, program: Program, certificate: Certificate, secure_port: int) -> Iterator[Nginx]:
    """nginx with both servers, HSTS and the page."""
    pem, key = certificate.files
    tls = TLS(listen=[f"127.0.0.1:{secure_port}"], certificate=pem, key=key, hsts=3600)
    with Nginx(upstream.address, program=program, tls=tls, page=STATIC) as nginx:
        yield nginx


@pytest.fixture
def client(nginx: Nginx, certificate: Certificate, secure_port: int) -> Iterator[Http2]:
    with Http2(secure_port, certificate.trust) as client:
        yield client


class TestStreams:
    def test_over_http_1(self, nginx: Nginx, upstream: Upstream, certificate: Certificate, secure_port: int) -> None:
        """A stream over TLS without HTTP/2 passes event by event, and the service learns that it is https."""
        stream = OpenStream(upstream)
        certificate.trust.set_alpn_protocols(["http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", secure_port), timeout=TIMEOUT) as plain,
            certificate.trust.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = Response(secure)
            stream.write(b"data: 1\n\n")

            assert response.chunk() == b"data: 1\n\n"
            assert upstream.requests[0].headers["x-forwarded-proto"] == "https"

    def test_each_event_arrives_while_the_stream_is_open(self, client: Http2, upstream: Upstream) -> None:
        """Over HTTP/2 an event is there before the next is written, and the stream is still open."""
        stream = OpenStream(upstream)
        number = client.request("GET", "/events?topic=a")
        for count in range(3):
            event = f"data: {count}\n\n".encode()
            stream.write(event)

            assert client.read(number, len(event)) == event
            assert client.is_open(number)
        stream.end()

        assert client.rest(number) == b""

    def test_many_streams_on_one_connection(self, client: Http2, upstream: Upstream) -> None:
        """A browser's connection carries more streams than the six of HTTP/1.1, and a publish beside them."""
        OpenStream(upstream, STREAM_HEAD + OPENING)
        streams = [client.request("GET", f"/events?topic={number}") for number in range(20)]
        assert {client.head(number)[":status"] for number in streams} == {"200"}
        upstream.answer = reply(b"done")
        posted = client.request("POST", "/publish", body=b"{}")

        assert client.rest(posted) == b"done"
        assert all(client.is_open(number) for number in streams)

    def test_no_header_of_a_connection_passes(self, client: Http2, upstream: Upstream) -> None:
        """What the service says of its connection to nginx does not reach a client, whom HTTP/2 would let hang up for it."""
        OpenStream(upstream, HOP_BY_HOP + OPENING)
        number = client.request("GET", "/events?topic=a")
        head = client.head(number)

        assert client.read(number, len(OPENING)) == OPENING
        assert head["x-kept"] == "yes"
        assert {"connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"} & head.keys() == set()

    def test_a_stream_that_is_given_up_ends_at_the_service(self, client: Http2, upstream: Upstream) -> None:
        """A page that closes one of its streams ends that one at the service, though the connection stays."""
        stream = OpenStream(upstream, STREAM_HEAD + OPENING)
        number = client.request("GET", "/events?topic=a")
        client.head(number)
        client.reset(number)

        assert stream.left.wait(TIMEOUT)
        upstream.answer = reply(b"ok")
        assert client.rest(client.request("GET", "/healthz")) == b"ok"

    def test_a_client_that_leaves_ends_its_streams(
        self, nginx: Nginx, upstream: Upstream, certificate: Certificate, secure_port: int
    ) -> None:
        """A connection that breaks ends the streams on it at the service."""
        stream = OpenStream(upstream, STREAM_HEAD + OPENING)
        with Http2(secure_port, certificate.trust) as client:
            client.head(client.request("GET", "/events?topic=a"))

        assert stream.left.wait(TIMEOUT)


class TestRequests:
    def test_what_a_client_claims_to_be(
        self, nginx: Nginx, upstream: Upstream, certificate: Certificate, secure_port: int
    ) -> None:
        """Forged forwarding headers do not reach the service over HTTP/2 either."""
        forged = {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "http", "x-forwarded-host": "evil.test"}
        with Http2(secure_port, certificate.trust, source=STRANGER) as client:
            client.rest(client.request("GET", "/healthz", forged))
        headers = upstream.requests[0].headers

        assert headers["x-forwarded-for"] == STRANGER
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-forwarded-host"] == headers["host"] == "localhost"

    def test_a_header_that_is_too_large(
        self, client: Http2, upstream: Upstream, certificate: Certificate, secure_port: int
    ) -> None:
        """Over HTTP/2 a header far beyond 8 kB ends its connection, unseen by the service; the next one is served."""
        number = client.request("GET", "/healthz", {"x-large": "x" * 20_000})
        with pytest.raises(ConnectionError):
            client.head(number)
        assert upstream.requests == []

        with Http2(secure_port, certificate.trust) as again:
            assert again.head(again.request("GET", "/healthz"))[":status"] == "200"

    def test_a_body_that_is_too_large(self, client: Http2, upstream: Upstream) -> None:
        """A body beyond the bound is refused by its announced length, without the service."""
        number = client.request("POST", "/publish", {"content-length": str(64 << 20)}, b"x")

        assert client.head(number)[":status"] == "413"
        assert upstream.requests == []

    def test_every_answer_promises_https(self, client: Http2, nginx: Nginx, upstream: Upstream) -> None:
        """With --hsts each answer over TLS says so: the service's, nginx's own, the soft ones and the page's files."""
        upstream.answer = reply(b"ok")
        answers = [client.head(client.request("GET", target)) for target in ("/healthz", "/", "/.problem")]
        upstream.answer = lambda request, connection: False
        answers.append(client.head(client.request("GET", "/events?topic=a")))

        assert [answer[":status"] for answer in answers] == ["200", "200", "404", "200"]
        assert {answer.get("strict-transport-security") for answer in answers} == {"max-age=3600"}

    def test_old_protocols_are_refused(self, nginx: Nginx, certificate: Certificate, secure_port: int) -> None:
        """TLS 1.2 is spoken with an authenticated suite; one without is refused."""
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        trust.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", secure_port), timeout=TIMEOUT) as plain,
            trust.wrap_socket(plain) as secure,
        ):
            assert secure.version() == "TLSv1.2"
        trust.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:AES128-SHA")
        with (
            socket.create_connection(("127.0.0.1", secure_port), timeout=TIMEOUT) as plain,
            pytest.raises(ssl.SSLError),
        ):
            trust.wrap_socket(plain)


class TestPage:
    def test_nginx_sends_the_page(self, client: Http2, upstream: Upstream) -> None:
        """With --page nginx sends the page and its files by itself, with the headers that the service gives them."""
        types = {
            "index.html": "text/html",
            "style.css": "text/css",
            "main.js": "text/javascript",
            "icon.svg": "image/svg+xml",
        }
        for name, content_type in types.items():
            number = client.request("GET", "/" if name == "index.html" else f"/static/{name}")
            head = client.head(number)

            assert (head[":status"], head["content-type"]) == ("200", content_type)
            assert client.rest(number) == (STATIC / name).read_bytes()
            assert head["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert head["cache-control"] == "no-cache"
            assert head["x-content-type-options"] == "nosniff"
            assert head["referrer-policy"] == "no-referrer"
        assert upstream.requests == []

    def test_what_has_not_changed_is_not_sent_again(self, client: Http2) -> None:
        """A browser that has a file asks by its tag, and is told that it is the same."""
        tag = client.head(client.request("GET", "/static/main.js"))["etag"]

        assert client.head(client.request("GET", "/static/main.js", {"if-none-match": tag}))[":status"] == "304"

    @pytest.mark.parametrize("target", ["/static/nothing.js", "/static/../main.js", "/static/%2e%2e/cli.py"])
    def test_nothing_but_the_page(self, client: Http2, upstream: Upstream, target: str) -> None:
        """Beside the page's files there is nothing: what is not in the folder is not sent from elsewhere."""
        upstream.answer = reply(status="404 Not Found")
        number = client.request("GET", target)

        assert client.head(number)[":status"] in ("400", "403", "404")
        assert b"import" not in client.rest(number)
