"""examples/flask_sse_app.py: an application of flask-sse but for one line, and what it can do with that line."""

from __future__ import annotations

import json
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contrib.test_flask_sse import OURS, THEIRS
from tests.redisserver import redis_server
from tests.test_examples import ROOT, Program, documented_command

NOTICE = b'{"text": "The lift works again."}'


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with tempfile.TemporaryDirectory(prefix="sse-") as folder:
        program = Program(documented_command("flask_sse_app"), Path(folder))
        yield program
        program.stop()


def test_it_streams_and_resumes(program: Program) -> None:
    """Under the command that it names, without Redis, a notice reaches the page, and who was away gets what was missed."""
    with program.listen("/stream") as reader:
        assert program.request("POST", "/publish", NOTICE, "application/json")[0] == 200
        (event,) = reader.read()
    program.request("POST", "/publish", b'{"text": "It does not."}', "application/json")
    with program.listen("/stream", last_event_id=reader.last_event_id) as again:
        (missed,) = again.read()

    assert (event.event, json.loads(event.data or "")) == ("notice", json.loads(NOTICE))
    assert json.loads(missed.data or "") == {"text": "It does not."}


def test_its_page_and_its_access_are_those_of_the_application(program: Program) -> None:
    """The page finds the stream by the blueprint's name, and a channel for staff is closed to others."""
    status, media_type, page = program.request("GET", "/")

    assert (status, media_type) == (200, "text/html")
    assert 'EventSource("/stream")' in page
    assert program.request("GET", "/stream?channel=staff")[0] == 403


def test_one_line_is_all_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With flask-sse's own import in the place of ours it is an application of flask-sse, and publishes."""
    source = (ROOT / "examples" / "flask_sse_app.py").read_text()
    assert source.count(OURS) == 1
    before = types.ModuleType("before")
    with redis_server(tmp_path) as redis:
        monkeypatch.setenv("REDIS_URL", redis.url)
        exec(compile(source.replace(OURS, THEIRS), "flask_sse_app.py", "exec"), before.__dict__)
        client = before.app.test_client()
        listening = redis.client().pubsub()
        listening.subscribe("sse")
        assert listening.get_message(timeout=10)
        assert client.post("/publish", data=NOTICE, content_type="application/json").status_code == 200
        message = listening.get_message(timeout=10)
        listening.close()

        assert 'EventSource("/stream")' in client.get("/").text
        assert message is not None
        assert json.loads(message["data"]) == {"data": json.loads(NOTICE), "type": "notice"}
