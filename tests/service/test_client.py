from __future__ import annotations

import itertools
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sse_core import Event
from sse_kit.client import DEFAULT_RETRY, AddressError, Listener, Publisher, RefusedError, Server, UnavailableError
from tests.servers import TIMEOUT

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"


class ScriptedServer:
    """Answers one connection after the other with given bytes; keeps the requests' heads. None: hangs up at once."""

    def __init__(self, path: Path, *answers: bytes | None) -> None:
        self.requests: list[str] = []
        self.server = Server(f"unix:{path}")
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(TIMEOUT)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                if answer is None:
                    continue
                connection.settimeout(TIMEOUT)
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65536)
                # The body may come with its head, or after it.
                self.requests.append(received.partition(b"\r\n\r\n")[0].decode() + "\r\n")
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIMEOUT)
        self._listener.close()


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket can be: pytest's own folders are too deep for its address."""
    with tempfile.TemporaryDirectory(prefix="sse-") as folder:
        yield Path(folder) / "s"


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Waits:
    """Stands for `time.sleep`; keeps how long was to be slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def listen(scripted: ScriptedServer, waits: Waits, **options: str) -> list[tuple[str | None, str | None]]:
    listener = Listener(scripted.server, ["a", "b c"], sleep=waits, **options)
    return [(event.id, event.data) for event in listener.events()]


GONE = answer("204 No Content")


def test_resume(path: Path) -> None:
    """After a cut the listener waits as told and resumes after the last id; a 204 ends it."""
    waits = Waits()
    with ScriptedServer(
        path, STREAM + b"retry: 50\nid: 1-0\n\ndata: x\nid: 2-0\n\ndata: cut", STREAM + b"data: y\n\n", GONE
    ) as scripted:
        events = listen(scripted, waits)

    assert [data for _, data in events] == ["x", "y"]
    assert waits.seconds == [0.05, 0.05]
    first, second, third = scripted.requests
    assert first.startswith("GET /events?topic=a&topic=b+c HTTP/1.1\r\n")
    assert "Accept: text/event-stream" in first
    assert "Last-Event-ID" not in first
    assert "Last-Event-ID: 2-0\r\n" in second
    assert "Last-Event-ID: 2-0\r\n" in third


@pytest.mark.parametrize(("token", "header"), [("abc+/=", "Authorization: Bearer abc+/=\r\n"), (None, None)])
def test_token(path: Path, token: str | None, header: str | None) -> None:
    """With a token every request says who asks, each reconnect and repetition too; without one none does."""
    busy = answer("503 Service Unavailable", b"{}")
    with ScriptedServer(path, STREAM, GONE, busy, answer("200 OK", b"receipt")) as scripted:
        assert list(Listener(scripted.server, ["a"], token=token, sleep=Waits()).events()) == []
        publisher = Publisher(scripted.server, token=token, sleep=Waits())
        assert publisher.post(b"body", "application/json") == b"receipt"
        publisher.close()

    assert len(scripted.requests) == 4
    for request in scripted.requests:
        assert header in request if header else "Authorization" not in request


def test_place_without_events(path: Path) -> None:
    """A block with only an id moves the place to resume from, as a server's keepalives do."""
    waits = Waits()
    with ScriptedServer(path, STREAM + b"id: 7-0\n\n", GONE) as scripted:
        assert listen(scripted, waits) == []

    assert "Last-Event-ID: 7-0\r\n" in scripted.requests[1]
    assert waits.seconds == [DEFAULT_RETRY]


def test_given_place(path: Path) -> None:
    """A listener may begin at an id of its caller's."""
    with ScriptedServer(path, GONE) as scripted:
        listen(scripted, Waits(), last_event_id="0-0")

    assert "Last-Event-ID: 0-0\r\n" in scripted.requests[0]


def test_backoff(path: Path) -> None:
    """Failures to connect are repeated with growing waits, and one success begins anew."""
    waits = Waits()
    first = STREAM + b"retry: 100\n\n"
    with ScriptedServer(path, first, None, None, None, STREAM, None, GONE) as scripted:
        listen(scripted, waits)

    assert waits.seconds == [0.1, 0.1, 0.2, 0.4, 0.1, 0.1]


@pytest.mark.parametrize(
    "refusal",
    [
        answer("404 Not Found", b'{"detail": "No log named x"}', "Content-Type: application/problem+json"),
        answer("503 Service Unavailable", b"<html>"),
        answer("301 Moved Permanently", b"", "Location: /x"),
        answer("200 OK", b"<html>", "Content-Type: text/html"),
        answer("200 OK", b"data: no type"),
    ],
)
def test_final_answers(path: Path, refusal: bytes) -> None:
    """Any other status, or type, ends the listener for good, as it does a browser's."""
    waits = Waits()
    with ScriptedServer(path, refusal) as scripted, pytest.raises(RefusedError) as raised:
        listen(scripted, waits)

    assert waits.seconds == []
    if raised.value.status == 404:
        assert str(raised.value) == "the server answered 404: No log named x"


def test_same_listener_goes_on(path: Path) -> None:
    """Who stops reading and begins again goes on after the last event that was handed out."""
    with ScriptedServer(path, STREAM + b"id: 1-0\ndata: x\n\nid: 2-0\ndata: y\n\n", GONE) as scripted:
        listener = Listener(scripted.server, ["a"], sleep=Waits())
        (event,) = itertools.islice(listener.events(), 1)
        assert list(listener.events()) == []

    assert event == Event("x", id="1-0")
    assert "Last-Event-ID: 1-0\r\n" in scripted.requests[1]


def publish(scripted: ScriptedServer, waits: Waits, patience: float = 60.0) -> bytes:
    publisher = Publisher(scripted.server, patience=patience, sleep=waits)
    try:
        return publisher.post(b"body", "application/json")
    finally:
        publisher.close()


def test_publish_is_repeated(path: Path) -> None:
    """What fails in a way that may pass is repeated, no sooner than the server asks."""
    waits = Waits()
    busy = answer("503 Service Unavailable", b"{}", "Retry-After: 7")
    many = answer("429 Too Many Requests", b"{}", "Retry-After: 1")
    with ScriptedServer(path, None, busy, answer("502 Bad Gateway"), many, answer("200 OK", b"receipt")) as scripted:
        assert publish(scripted, waits) == b"receipt"

    assert len(waits.seconds) == 4
    assert 0.1 <= waits.seconds[0] < 7 <= waits.seconds[1]
    assert waits.seconds[3] >= 1
    assert scripted.requests[0] == scripted.requests[3]


def test_publish_gives_up(path: Path) -> None:
    """When the time is up the caller is told why it failed."""
    busy = answer("503 Service Unavailable", json.dumps({"detail": "full"}).encode(), "Retry-After: 7")
    with ScriptedServer(path, busy) as scripted, pytest.raises(UnavailableError, match=r"after 1 attempts.*503: full"):
        publish(scripted, Waits(), patience=5)


def test_publish_is_refused(path: Path) -> None:
    """A final answer is not repeated."""
    waits = Waits()
    refusal = answer("422 Unprocessable Entity", b'{"detail": "bad"}')
    with ScriptedServer(path, refusal) as scripted, pytest.raises(RefusedError, match="422: bad"):
        publish(scripted, waits)

    assert waits.seconds == []


@pytest.mark.parametrize(
    "address", ["", "localhost:8000", "ftp://x", "http://", "unix:", "http://x:port", "http://x/?q"]
)
def test_bad_addresses(address: str) -> None:
    """What is no address of a server is refused before anything is sent."""
    with pytest.raises(AddressError):
        Server(address)


def test_prefix() -> None:
    """A path after the host is where the service lives."""
    heads: list[bytes] = []

    def hang_up(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            heads.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up, args=(listener,))
        thread.start()
        publisher = Publisher(Server(f"http://127.0.0.1:{listener.getsockname()[1]}/live/"), patience=0, sleep=Waits())
        with pytest.raises(UnavailableError):
            publisher.post(b"", "application/json")
        thread.join(TIMEOUT)

    assert heads[0].startswith(b"POST /live/publish HTTP/1.1\r\n")
