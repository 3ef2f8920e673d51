"""Every program of examples/ under the server that it was written for. Its page is tried in tests/browser."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sse_core.testing import StreamReader
from tests.service.llm.vendor import anthropic_answer, chunks, refused, vendor

ROOT = Path(__file__).resolve().parent.parent
#: The one that was written for flask-sse has the routes of flask-sse, and tests in tests/contrib.
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*_app.py") if path.stem != "flask_sse_app")
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class Program:
    """An application under gunicorn on a unix socket in `folder`, started by a documented command.

    It is ready when the path `ready` is answered, by whatever status.
    """

    def __init__(self, command: list[str], folder: Path, *, cwd: Path = ROOT, ready: str = "/") -> None:
        self.socket = str(folder / "http.sock")
        self.log = folder / "log"
        self._ready = ready
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", *command),
                    *("--bind", f"unix:{self.socket}", "--no-control-socket", "--graceful-timeout", "10"),
                ],
                cwd=cwd,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{command} does not answer:\n{self.log.read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.request("GET", self._ready)[0] < 500
        except OSError:
            return False

    def request(
        self, method: str, target: str, body: bytes | None = None, media_type: str = "text/plain"
    ) -> tuple[int, str, str]:
        """Return the status, the media type and the text of an answer."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        try:
            connection.sock.connect(self.socket)
            connection.request(method, target, body, {"Content-Type": media_type})
            response = connection.getresponse()
            return response.status, response.headers.get_content_type(), response.read().decode()
        finally:
            connection.close()

    def publish(self, text: str) -> str:
        """Publish through the example and return the id that it answers."""
        status, _, answer = self.request("POST", "/publish", text.encode())
        assert status == 200, answer
        return answer

    def listen(self, target: str = "/events", *, last_event_id: str | None = None) -> StreamReader:
        return StreamReader(self.socket, target, last_event_id=last_event_id)

    def stop(self) -> int:
        """Stop it as a supervisor does and return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def documented_command(name: str) -> list[str]:
    docstring = ast.get_docstring(ast.parse((ROOT / "examples" / f"{name}.py").read_text())) or ""
    command = re.search(r"`(gunicorn [^`]*)`", docstring)
    assert command is not None, f"the docstring of {name} does not say how to run it"
    return shlex.split(command[1])


@contextmanager
def running(name: str, *arguments: str) -> Iterator[Program]:
    """Run an example as it says, with further arguments."""
    # pytest's own folder may be too long for a unix socket's address.
    with tempfile.TemporaryDirectory(prefix="sse-") as folder:
        program = Program([*documented_command(name), *arguments], Path(folder))
        try:
            yield program
        finally:
            program.stop()


@pytest.fixture(params=EXAMPLES)
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    with running(request.param) as program:
        yield program


def test_each_framework_that_the_docs_name_has_an_example() -> None:
    """There is one program for Bottle, Django, Falcon, Flask and plain WSGI."""
    assert EXAMPLES == ["bottle_app", "django_app", "falcon_app", "flask_app", "wsgi_app"]


def test_every_example_is_run_by_a_test() -> None:
    """A program that nobody runs would be wrong one day, and still be copied."""
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    folders = {path.name for path in (ROOT / "examples").iterdir() if (path / "README.md").exists()}
    pages = {path.name for path in (ROOT / "examples").glob("*.html")}
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    own = Path(__file__).read_text()

    # Those of a framework are found by their names.
    assert {name for name in programs - {*EXAMPLES} if f'"{name}"' not in own and name not in tests} == set()
    assert {name for name in folders if f'"{name}"' not in tests} == set()
    # A page is its program's, or has a test of its own.
    sources = "".join(path.read_text() for path in (ROOT / "examples").glob("*.py"))
    assert {name for name in pages if name not in sources + tests} == set()


def test_an_example_streams_what_is_published_and_resumes_after_an_id(program: Program) -> None:
    """An event published over HTTP reaches an open stream, and a client that comes back gets exactly what it missed."""
    with program.listen() as reader:
        first = program.publish("one")
        (event,) = reader.read()
    second = program.publish("two\nlines")
    with program.listen(last_event_id=reader.last_event_id) as again:
        (missed,) = again.read()

    assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream")
    assert (event.data, event.id) == ("one", first)
    assert (missed.data, missed.id) == ("two\nlines", second)


def test_the_streams_of_an_example_hold_no_thread(program: Program) -> None:
    """More streams than the four threads of the command are open, and publishing still works."""
    readers: list[StreamReader] = []
    try:
        readers.extend(program.listen() for _ in range(6))
        published = program.publish("to all")
        received = [reader.read()[0].id for reader in readers]
    finally:
        for reader in readers:
            reader.close()

    assert received == [published] * 6


def test_an_example_refuses_what_is_no_text(program: Program) -> None:
    """Bytes that are not UTF-8 are the client's fault and are answered with 400 and the reason."""
    status, _, answer = program.request("POST", "/publish", b"\xff")

    assert status == 400
    assert "UTF-8" in answer


def test_the_head_of_an_example_s_stream_comes_without_a_body(program: Program) -> None:
    """A HEAD request is answered with the stream's media type and ends at once."""
    assert program.request("HEAD", "/events") == (200, "text/event-stream", "")


def test_an_example_serves_its_page(program: Program) -> None:
    """The page is HTML and opens the stream by itself."""
    status, media_type, page = program.request("GET", "/")

    assert (status, media_type) == (200, "text/html")
    assert json.dumps("/events") in page


def test_an_example_that_is_stopped_tells_its_streams_when_to_come_back() -> None:
    """TERM ends the open streams with a reconnection time, and the server exits in order."""
    with tempfile.TemporaryDirectory(prefix="sse-") as folder:
        program = Program(documented_command("wsgi_app"), Path(folder))
        try:
            with program.listen() as reader:
                status = program.stop()
                reader.read_to_end()
        finally:
            program.stop()

        assert status == 0
        # The first is the hub's own, told when the stream was opened.
        assert reader.raw.count(b"retry: ") == 2
        assert not os.path.exists(program.socket)


def test_the_answer_of_a_language_model_streams_and_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens come as the vendor's own library yields them, the model is asked once, and who has all of it gets 204."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with vendor(chunks(*anthropic_answer("Hello", "!", " ü"))) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        target = "/generate?prompt=Hi"
        with running("llm_flask") as program:
            with program.listen(target=target) as reader:
                first = reader.read()
            with program.listen(target, last_event_id=reader.last_event_id) as again:
                events = first + again.read_to_end()
            with program.listen(target, last_event_id=again.last_event_id) as late:
                status = late.status
        (asked,) = model.requests

    assert [json.loads(event.data or "") for event in events[:-1]] == [{"token": text} for text in ("Hello", "!", " ü")]
    assert (events[-1].event, json.loads(events[-1].data or "")) == (
        "done",
        {"reason": "finished", "finish_reason": "end_turn", "output_tokens": 7},
    )
    assert status == 204
    assert asked.body["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_language_model_that_refuses_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client learns that the model cannot be asked, and nothing of what the vendor said."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    error = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key sk-test"}}
    with vendor(refused("401 Unauthorized", error)) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        with running("llm_flask") as program, program.listen(target="/generate") as reader:
            (event,) = reader.read_to_end()

    assert (event.event, json.loads(event.data or "")) == (
        "failed",
        {"reason": "upstream", "message": "The model cannot be asked now."},
    )


def test_a_job_tells_its_progress_and_can_be_cancelled() -> None:
    """Progress comes in few events, then the result; a second job that is cancelled ends at once; there are no others."""
    with running("progress_flask") as program:
        status, _, answer = program.request("POST", "/jobs")
        job = json.loads(answer)["job"]
        with program.listen(target=f"/jobs/{job}") as reader:
            events = reader.read_to_end()
        other = json.loads(program.request("POST", "/jobs")[2])["job"]
        with program.listen(target=f"/jobs/{other}") as reader:
            reader.read()
            cancelled = program.request("POST", f"/jobs/{other}/cancel")
            ended = reader.read_to_end()[-1]
        unknown = program.request("GET", "/jobs/unknown")

    assert status == 202
    assert {event.event for event in events[:-1]} == {"progress"}
    counts = [json.loads(event.data or "")["n"] for event in events[:-1]]
    assert counts == sorted(counts)
    assert counts[-1] == 100
    assert 2 <= len(counts) < 100
    assert (events[-1].event, json.loads(events[-1].data or "")) == ("done", {"reason": "finished", "answer": 42})
    assert (cancelled[0], json.loads(cancelled[2])) == (200, {"cancelled": True})
    assert (ended.event, json.loads(ended.data or "")["reason"]) == ("done", "stopped")
    assert unknown[0] == 404
