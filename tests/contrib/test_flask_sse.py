"""The same small application on flask-sse and on ours, over HTTP, with a real Redis: what does a client receive?"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sse_core import Event
from sse_core.testing import StreamReader
from tests.contrib.small_app import ODD
from tests.redisserver import RedisServer, redis_server
from tests.test_examples import Program

THEIRS = "from flask_sse import sse\n"
OURS = "from sse_core.contrib.flask import sse\n"

_NUMBERS = itertools.count(77)
#: Arguments of `sse.publish` whose outcome is the same.
MESSAGES: list[dict[str, Any]] = [
    {"data": "a word"},
    {"data": "two\nlines"},
    {"data": "carriage\r\nreturn\rs"},
    {"data": "日本語 und Ümlaut"},
    {"data": {"b": 1, "a": [1.5, None, True], "ü": "é"}},
    {"data": {"nested": {"z": 1, "a": "two\nlines"}}},
    {"data": [1, 2, 3]},
    {"data": []},
    {"data": 5},
    {"data": 0},
    {"data": False},
    {"data": None},
    {"data": '{"b":1, "a":2}'},
    {"data": '"quoted"'},
    {"data": "5"},
    {"data": "1e5"},
    {"data": "null"},
    {"data": "greeted", "type": "greeting"},
    {"data": "numbered", "type": 5},
    {"data": "nameless", "type": ""},
    {"data": "later", "retry": 1234},
    {"data": "much later", "retry": "5000"},
    {"data": "never", "retry": 0},
    {"data": {"all": "of it"}, "type": "update", "id": lambda: next(_NUMBERS), "retry": 2500},
    {"data": "elsewhere", "channel": "orders"},
]
#: Texts that flask-sse alters on the way.
ALTERED = ["", "trailing\n", "\n", " leading", "form\ffeed", "line\u2028separator", "next\x85line"]
CHANNELS = ("sse", "orders", "odd")

Lines = list[tuple[str, str]]


class Application:
    """The small application under gunicorn."""

    def __init__(self, import_line: str, url: str, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sse-")
        source = Path(__file__).with_name("small_app.py").read_text()
        assert source.count(THEIRS) == 1
        Path(self._folder.name, "small_app.py").write_text(source.replace(THEIRS, import_line))
        command = ["gunicorn", *options, f"small_app:create_app({url!r})"]
        self.program = Program(command, Path(self._folder.name), cwd=Path(self._folder.name), ready="/nowhere")

    def publish(self, data: object, **fields: object) -> None:
        body = json.dumps({"data": data, **fields}).encode()
        status, _, answer = self.program.request("POST", "/publish", body, "application/json")
        assert status == 200, answer

    def listen(self, target: str = "/stream", **options: Any) -> StreamReader:
        return StreamReader(self.program.socket, target, **options)

    def subscribed(self, target: str, channel: str) -> StreamReader:
        """A stream that is subscribed. flask-sse does not say when: not even the head comes before the first event."""
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(self.listen, f"{target}?channel={channel}")
            while not wait([opening], 0.05).done:
                self.publish("knock", type="knock", channel=channel)
            return opening.result()

    def close(self) -> None:
        try:
            for channel in (*CHANNELS, "altered"):
                # A generator of the application's own does not notice that its client has left before it writes.
                self.publish("bye", channel=channel)
        finally:
            self.program.stop()
            self._folder.cleanup()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def theirs(redis: RedisServer) -> Iterator[Application]:
    application = Application(THEIRS, redis.url, "-k", "gthread", "--threads", "16")
    try:
        yield application
    finally:
        application.close()


@pytest.fixture(scope="module")
def ours(redis: RedisServer) -> Iterator[Application]:
    """Two workers, each with fewer threads than it has streams."""
    worker = ("-k", "sse_core.worker.EventWorker", "--threads", "6", "--workers", "2")
    application = Application(OURS, redis.url, *worker)
    try:
        workers: set[str] = set()
        while len(workers) < 2:
            # One may be up before the other.
            with application.listen() as reader:
                workers.add(reader.headers["x-worker"])
        yield application
    finally:
        application.close()


def received(application: Application, target: str) -> dict[str, list[Lines]]:
    """Publish everything; return by channel the lines that a client is sent for each event, but for ids and comments."""
    with ExitStack() as stack:
        readers = {channel: stack.enter_context(application.subscribed(target, channel)) for channel in CHANNELS}
        for message in MESSAGES:
            # The same id again would be the same event again.
            application.publish(**{name: value() if callable(value) else value for name, value in message.items()})
        for name in ODD:
            assert application.program.request("POST", f"/publish/{name}")[0] == 200
        for channel, reader in readers.items():
            application.publish("the end", channel=channel)
            _until_the_end(reader)
        return {channel: list(_events(reader.raw)) for channel, reader in readers.items()}


def _until_the_end(reader: StreamReader) -> list[Event]:
    events: list[Event] = []
    while not events or events[-1].data != "the end":
        events += reader.read()
    return [event for event in events[:-1] if event.event != "knock"]


def _events(raw: bytes) -> Iterator[Lines]:
    for block in raw.decode().split("\n\n"):
        pairs = (line.partition(":") for line in block.split("\n"))
        # The space is no part of the value (HTML standard, section 9.2.6).
        lines = [(name, value.removeprefix(" ")) for name, _, value in pairs if name in ("event", "data", "retry")]
        # The order of fields says nothing; that of the lines of data does.
        lines.sort(key=lambda line: line[0])
        if "data" in dict(lines) and ("event", "knock") not in lines:
            yield lines


@pytest.mark.parametrize("target", ["/stream", "/mirror"])
def test_a_client_receives_the_same(theirs: Application, ours: Application, target: str) -> None:
    """Type, data and reconnection time of every event are those of flask-sse, in its view and in one over `sse.messages`."""
    expected = received(theirs, target)

    assert received(ours, target) == expected
    assert {channel: len(events) for channel, events in expected.items()} == {
        "sse": len(MESSAGES),
        "orders": 2,
        "odd": len(ODD) + 1,
    }


def test_what_flask_sse_alters_arrives_as_published(theirs: Application, ours: Application) -> None:
    """Empty texts, outer line ends and spaces, and characters that only Python takes for line ends, come through."""
    with ours.subscribed("/stream", "altered") as here, theirs.subscribed("/stream", "altered") as there:
        for text in ALTERED:
            ours.publish(text, channel="altered")
            theirs.publish(text, channel="altered")
        for application in (ours, theirs):
            application.publish("the end", channel="altered")
        arrived, altered = ([event.data for event in _until_the_end(reader)] for reader in (here, there))

    assert arrived == ALTERED
    # An empty text is not delivered at all, and one that is only a line end becomes an empty one.
    assert altered == ["trailing", "", "leading", "form\nfeed", "line\nseparator", "next\nline"]


def test_a_client_resumes_on_any_worker(ours: Application) -> None:
    """Who comes back with the last id gets what was missed, once and in order, and then what is new."""
    with ours.listen("/stream?channel=resume") as reader:
        ours.publish("seen", channel="resume")
        assert [event.data for event in reader.read()] == ["seen"]
    for number in range(5):
        ours.publish(number, channel="resume")
    workers: set[str] = set()
    while len(workers) < 2:
        with ours.listen("/stream?channel=resume", last_event_id=reader.last_event_id) as again:
            workers.add(again.headers["x-worker"])
            assert [event.data for event in again.read(5)] == ["0", "1", "2", "3", "4"]


def test_history_is_there_for_who_asks(ours: Application) -> None:
    """A page can ask for all that is left of a channel with its first request."""
    ours.publish("yesterday", channel="history")

    with ours.listen("/stream?channel=history&last_event_id=0-0") as reader:
        assert [event.data for event in reader.read()] == ["yesterday"]


def test_workers_are_one_feed_and_streams_take_no_thread(ours: Application) -> None:
    """More clients than all workers have threads get each event, with one id, whichever worker published it."""
    with ExitStack() as stack:
        readers: list[StreamReader] = []
        while len(readers) < 13 or len({reader.headers["x-worker"] for reader in readers}) < 2:
            readers.append(stack.enter_context(ours.listen("/stream?channel=all")))
        ours.publish("to all", channel="all")
        events = {(event.id, event.data) for reader in readers for event in reader.read()}

    assert [data for _, data in events] == ["to all"]


def test_an_id_is_an_idempotency_key(ours: Application) -> None:
    """What is published twice with one id arrives once, whichever workers did it, and its id on the wire is the hub's."""
    with ours.listen("/stream?channel=keys") as reader:
        for _ in range(4):
            ours.publish("paid", id="order-7", channel="keys")
        ours.publish("shipped", id="order-7-shipped", channel="keys")
        events = reader.read(2)

    assert [event.data for event in events] == ["paid", "shipped"]
    assert "order" not in f"{events[0].id}{events[1].id}"


def test_access_is_checked_before_the_stream_opens(theirs: Application, ours: Application) -> None:
    """A hook of the blueprint that aborts is the answer, as it is with flask-sse."""
    for application in (theirs, ours):
        assert application.program.request("GET", "/stream?channel=secret")[0] == 403
