"""The function of examples/openfaas under what its template has: Flask and waitress, and the function in a package."""

from __future__ import annotations

import http.client
import importlib
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from flask import Flask, request
from waitress.server import create_server

from sse_core.testing import StreamReader

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "openfaas"
TIMEOUT = 20.0


class Function:
    """The function as it is deployed, at an address of its own. A second of it passes when `let_pass` is called."""

    def __init__(self, handler: ModuleType) -> None:
        self.slept: list[float] = []
        self._seconds = threading.Semaphore(0)
        handler.time = SimpleNamespace(sleep=self._sleep)  # type: ignore[attr-defined]
        app = Flask("index")

        @app.route("/", defaults={"path": ""}, methods=["POST", "GET"])
        @app.route("/<path:path>", methods=["POST", "GET"])
        def main_route(path: str) -> object:
            return handler.handle(request.get_data(as_text=True))

        listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listener.getsockname()
        self._server = create_server(app, sockets=[listener], asyncore_loop_timeout=0.05)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert self._seconds.acquire(timeout=TIMEOUT)

    def let_pass(self, seconds: int) -> None:
        self._seconds.release(seconds)

    def listen(self, last_event_id: str | None = None) -> StreamReader:
        return StreamReader(self.address, "/", last_event_id=last_event_id, timeout=TIMEOUT)

    def close(self) -> None:
        # On its own thread, which would else wait for a descriptor that is not there any more.
        self._server.trigger.pull_trigger(self._server.close)
        self._thread.join(TIMEOUT)
        self._server.task_dispatcher.shutdown()


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    # The template's image has the handler's folder as the package `function`.
    shutil.copytree(EXAMPLE / "sse-example", tmp_path / "function")
    (tmp_path / "function" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    handler = importlib.import_module("function.handler")
    function = Function(handler)
    try:
        yield function
    finally:
        function.let_pass(100)
        # Its streams' threads end with the hub.
        handler.hub.close()
        function.close()
        for name in ("function", "function.handler"):
            del sys.modules[name]


def test_the_function_streams_five_messages_and_its_end(function: Function) -> None:
    """A message a second as it is made, `[DONE]` after the last one, and an event that ends the stream for good."""
    with function.listen() as reader:
        for i in range(1, 6):
            function.let_pass(1)
            (event,) = reader.read()
            assert event.data == f"Message {i} of 5"
        closing, done = reader.read_to_end()
    with function.listen(reader.last_event_id) as again:
        status = again.status

    assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream")
    assert closing.data == "[DONE]"
    assert done.event == "done"
    assert function.slept == [1] * 5
    assert status == 204


def test_a_stream_that_was_cut_goes_on(function: Function) -> None:
    """After a timeout of the gateway the client misses nothing, and the function's generator was run once."""
    with function.listen() as reader:
        function.let_pass(2)
        first = reader.read(2)
    function.let_pass(3)
    with function.listen(reader.last_event_id) as again:
        rest = again.read_to_end()

    assert [event.data for event in first + rest[:-1]] == [*(f"Message {i} of 5" for i in range(1, 6)), "[DONE]"]
    assert function.slept == [1] * 5


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_the_header_is_required(function: Function, accept: str) -> None:
    """Without `text/event-stream` by name the gateway would buffer, so the function says what to send and runs nothing."""
    connection = http.client.HTTPConnection(*function.address, timeout=TIMEOUT)
    connection.request("POST", "/", b"body", {"Accept": accept})
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()

    assert (response.status, "Accept: text/event-stream" in answer) == (406, True)
    assert function.slept == []


def test_the_stack_file_fits_the_function() -> None:
    """It names the template and the folder, and its timeouts are longer than the stream."""
    (function,) = yaml.safe_load((EXAMPLE / "stack.yaml").read_text())["functions"].values()
    timeouts = {name: value for name, value in function["environment"].items() if name.endswith("_timeout")}

    assert function["lang"] == "python3-flask"
    assert (EXAMPLE / function["handler"] / "handler.py").exists()
    assert timeouts.keys() == {"read_timeout", "write_timeout", "exec_timeout"}
    for value in timeouts.values():
        match = re.fullmatch(r"(\d+)m", value)
        assert match is not None
        assert int(match[1]) * 60 > 5
