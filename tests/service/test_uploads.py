"""What `POST /jobs` takes as a file, and that nothing of it is left wherever it fails."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from sse_core import Hub
from sse_kit.settings import Settings
from tests.application import app_of
from tests.open_files import open_files
from tests.servers import TIMEOUT, Server, running_service

OCTETS = {"Content-Type": "application/octet-stream"}
LIMIT = 100_000
KIND = "urn:sse-kit:problem:"


class Body(io.RawIOBase):
    """What a server hands an application as the body: pieces, and then its end or an error."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error
        #: Bytes that were read.
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes of the next piece."""
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        piece = self._pieces.pop(0)
        if 0 <= size < len(piece):
            self._pieces.insert(0, piece[size:])
            piece = piece[:size]
        self.taken += len(piece)
        return piece


def files_in(folder: Path, pid: int | None = None) -> list[str]:
    """The files of a folder that have a name, and those that a process has open."""
    return [*map(str, folder.iterdir()), *open_files(folder, pid)]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another process, of which there is no word."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT} s: {what}"
        time.sleep(0.01)


def settings_of(folder: Path, **others: Any) -> Settings:
    return Settings(job_folder=folder, max_upload_bytes=LIMIT, **{"min_free_bytes": 0, **others})


def send(
    hub: Hub, settings: Settings, body: Body, *, length: int | None = None, name: str = "?name=a", **headers: str
) -> Result:
    """Upload a body that is ``length`` bytes long, or chunked."""
    environ: dict[str, Any] = {"wsgi.input": body}
    if length is None:
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    else:
        environ["CONTENT_LENGTH"] = str(length)
    return TestClient(app_of(hub, settings)).simulate_post(
        f"/jobs{name}", headers={**OCTETS, **headers}, extras=environ
    )


class TestBeforeReading:
    """What can be refused without the file is refused without it."""

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
            ({"Content-Type": ""}, 415),
            ({"Accept": "text/html"}, 406),
        ],
    )
    def test_media_types(self, hub: Hub, tmp_path: Path, headers: dict[str, str], status: int) -> None:
        """A file is sent as it is, and who sends it takes JSON or a stream."""
        body = Body(b"abc")
        result = send(hub, settings_of(tmp_path), body, length=3, **headers)

        assert result.status_code == status
        assert body.taken == 0

    @pytest.mark.parametrize(
        "query",
        [
            *("", "?name=", "?name=a&name=b", "?name=a%0Ab", "?name=a%00", "?name=%C2%85", "?name=%E2%80%A8"),
            *("?name=%FF", "?name=" + "a" * 256, "?name=" + "%C3%A9" * 128),
        ],
    )
    def test_names(self, hub: Hub, tmp_path: Path, query: str) -> None:
        """A file has one name of 1 to 255 bytes of UTF-8 that can be shown in a line."""
        body = Body(b"abc")
        result = send(hub, settings_of(tmp_path), body, length=3, name=query)

        assert (result.status_code, result.json["type"]) == (400, KIND + "invalid-name")
        assert result.json["field"] == "name"
        assert body.taken == 0

    def test_neither_length_nor_chunks(self, hub: Hub) -> None:
        """A request that does not say where its body ends has none, and is told so."""
        result = TestClient(app_of(hub)).simulate_post("/jobs?name=a", headers=OCTETS, extras={"CONTENT_LENGTH": ""})

        assert result.status_code == 411

    def test_told_size(self, hub: Hub, tmp_path: Path) -> None:
        """A length beyond the bound is refused before the first byte; the bound itself is taken."""
        body = Body(b"x" * (LIMIT + 1))
        refused = send(hub, settings_of(tmp_path), body, length=LIMIT + 1)
        taken = send(hub, settings_of(tmp_path), Body(b"x" * LIMIT), length=LIMIT)

        assert (refused.status_code, refused.json["type"]) == (413, KIND + "too-large")
        assert (refused.json["limit"], refused.json["value"]) == ("max_upload_bytes", LIMIT)
        assert body.taken == 0
        assert taken.status_code == 202

    def test_full_disk(self, hub: Hub, tmp_path: Path) -> None:
        """A file that would not leave enough of the disk is refused before the first byte."""
        body = Body(b"abc")
        result = send(hub, settings_of(tmp_path, min_free_bytes=1 << 62), body, length=3)

        assert (result.status_code, result.json["type"]) == (507, KIND + "insufficient-storage")
        assert (result.json["limit"], result.json["value"]) == ("min_free_bytes", 1 << 62)
        assert body.taken == 0
        assert files_in(tmp_path) == []


class TestWhileReading:
    """What only shows on the way: nothing is left, and the place is free again."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """One upload at a time, so that one that is not closed is seen."""
        return settings_of(tmp_path, max_jobs=1)

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path: Path) -> Iterator[None]:
        """No file with or without a name."""
        yield
        assert files_in(tmp_path) == []

    def test_size_in_chunks(self, hub: Hub, settings: Settings) -> None:
        """Of chunks no more is read than it takes to know that they are too many."""
        body = Body(*[b"x" * 40_000] * 100)
        result = send(hub, settings, body)

        assert (result.status_code, result.json["limit"]) == (413, "max_upload_bytes")
        assert body.taken == 120_000

    @pytest.mark.parametrize(
        ("body", "length"),
        [
            (Body(b"abc"), 5),
            (Body(), 5),
            (Body(b"abc", error=ConnectionResetError()), 5),
            (Body(b"abc", error=ConnectionResetError()), None),
            (Body(b"abc", error=ValueError("no chunk")), None),
        ],
    )
    def test_broken_off(self, hub: Hub, settings: Settings, body: Body, length: int | None) -> None:
        """An upload that breaks off, or whose chunks are none, is the sender's fault, and no file."""
        result = send(hub, settings, body, length=length)

        assert result.status_code == 400
        assert "broke off after" in result.json["detail"]

    def test_the_disk_fills_up(self, hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that others fill meanwhile is told like one that was full before."""

        class Full(io.FileIO):
            def write(self, data: Any, /) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        def create(**options: Any) -> Full:
            file = Full(os.open(options["dir"], os.O_TMPFILE | os.O_RDWR), "w+")
            return file

        monkeypatch.setattr(tempfile, "TemporaryFile", create)
        result = send(hub, settings, Body(b"abc"), length=3)

        assert (result.status_code, result.json["limit"]) == (507, "min_free_bytes")

    def test_a_place_is_free_again(self, hub: Hub, settings: Settings) -> None:
        """After failures of each kind the one place there is can be had."""
        client = TestClient(app_of(hub, settings))
        for length, body in ((5, b"abc"), (LIMIT + 1, b"")):
            extras = {"CONTENT_LENGTH": str(length), "wsgi.input": Body(body)}
            assert client.simulate_post("/jobs?name=a", headers=OCTETS, extras=extras).status_code in (400, 413)

        assert client.simulate_post("/jobs?name=a", headers=OCTETS, body=b"abc").status_code == 202


def test_too_many(hub: Hub, tmp_path: Path) -> None:
    """Beyond `max_jobs` files, those that are worked on too, a file is refused with when to come again."""
    client = TestClient(app_of(hub, settings_of(tmp_path, max_jobs=2, job_bytes_per_second=1)))
    runs = [client.simulate_post("/jobs?name=a", headers=OCTETS, body=b"abc").json["run"] for _ in range(2)]
    refused = client.simulate_post("/jobs?name=a", headers=OCTETS, body=b"abc")
    hub.stop(f"run/{runs[0]}")
    wait_until(lambda: len(files_in(tmp_path)) == 1, "the file of the stopped job is closed")
    taken = client.simulate_post("/jobs?name=a", headers=OCTETS, body=b"abc")

    assert (refused.status_code, refused.json["type"]) == (503, KIND + "limit-reached")
    assert (refused.json["limit"], refused.json["value"]) == ("max_jobs", 2)
    assert int(refused.headers["Retry-After"]) >= 1
    assert taken.status_code == 202


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps files."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A service for one upload at a time, which must come within a second."""
    with running_service(
        job_folder=str(folder), max_upload_bytes=LIMIT, max_jobs=1, upload_timeout=1, job_bytes_per_second=1000
    ) as server:
        yield server


class TestOverHTTP:
    """The same through gunicorn, whose connections break in ways of their own."""

    @pytest.fixture
    def connection(self, server: Server) -> Iterator[socket.socket]:
        """A connection to the service, on which bytes can be sent as one likes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(server.socket_path)
            yield connection

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, server: Server, folder: Path) -> Iterator[None]:
        """No descriptor of the worker's, and so no byte of the disk."""
        yield
        wait_until(lambda: files_in(folder, server.worker_pid) == [], "the worker has closed the file")

    def head(self, *fields: str) -> bytes:
        lines = ("POST /jobs?name=a HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream", *fields)
        return "\r\n".join((*lines, "", "")).encode()

    def test_chunked(self, connection: socket.socket) -> None:
        """A file may come in chunks, of which nobody knows how many."""
        connection.sendall(self.head("Transfer-Encoding: chunked") + b"3\r\na\nb\r\n1\r\n\n\r\n0\r\n\r\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")

    @pytest.mark.parametrize(
        "body", [b"3\r\nabc", b"3\r\nabc\r\nx\r\n", b"3\r\nabc\r\n0\r\nnonsense\n"], ids=["cut", "size", "trailer"]
    )
    def test_broken_chunks(self, server: Server, connection: socket.socket, body: bytes) -> None:
        """Chunks that are cut or malformed are a bad request, and not an error of the server."""
        connection.sendall(self.head("Transfer-Encoding: chunked") + body)
        connection.shutdown(socket.SHUT_WR)

        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert not any("request failed" in line for line in server.log)

    def test_the_sender_leaves(self, server: Server, folder: Path, connection: socket.socket) -> None:
        """Who goes away in the middle, as a page that is closed does, leaves neither a file nor a taken place."""
        connection.sendall(self.head("Content-Length: 50000") + b"x" * 10_000)
        wait_until(lambda: files_in(folder, server.worker_pid) != [], "the file has begun to come")
        connection.close()
        wait_until(lambda: files_in(folder, server.worker_pid) == [], "nothing is left")

        assert server.request("POST", "/jobs?name=a", b"abc", OCTETS).status == 202

    def test_a_file_that_does_not_come(self, connection: socket.socket) -> None:
        """A client that sends a byte now and then, or none any more, holds its thread no longer than it may."""
        connection.sendall(self.head("Content-Length: 50000") + b"x")
        with contextlib.suppress(BrokenPipeError):
            while not select.select([connection], [], [], 0.05)[0]:
                connection.sendall(b"x")
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(65536)

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"limit":"upload_timeout","value":1' in answer

    def test_no_other_user_can_open_it(self, server: Server, folder: Path) -> None:
        """A file is never in the folder: it has no name, whatever its sender calls it."""
        name = "..%2F..%2Fetc%2Fpasswd"
        job = server.request("POST", f"/jobs?name={name}", b"abc" * 1000, OCTETS).json()
        with server.reader(job["events"]) as reader:
            (event,) = reader.read()
        found = open_files(folder, server.worker_pid)
        named = list(folder.iterdir())
        server.request("POST", job["stop"])

        assert (len(found), named) == (1, [])
        assert '"description":"../../etc/passwd"' in (event.data or "")
