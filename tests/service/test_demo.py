from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from falcon import App
from falcon.testing import TestClient, create_environ
from httpx_sse import connect_sse

from sse_core import (
    Backplane,
    BackplaneError,
    BusyError,
    Event,
    EventParser,
    Hub,
    MemoryBackplane,
    Receipt,
    RedisBackplane,
)
from sse_kit import demo as module
from sse_kit import duty as duty_module
from sse_kit.demo import Counter, echo
from sse_kit.resources import demo as demo_resources
from sse_kit.settings import Settings
from tests.application import app_of
from tests.redisserver import redis_server
from tests.servers import TIMEOUT, Server, running_service

#: The one of the FastAPI article.
SENTENCE = "你好,今天天氣不錯~"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service that counts quickly."""
    with running_service(demo_counter_interval=0.05) as server:
        yield server


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what no condition variable tells."""
    waiting = threading.Event()
    for _ in range(round(TIMEOUT / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("waited in vain")


def respond(app: App[Any, Any], path: str, query: str = "") -> Iterable[bytes]:
    """The body of a stream, as a server gets it."""
    environ = create_environ(path, query_string=query, headers={"Accept": "text/event-stream"})
    body: Iterable[bytes] = app(environ | {"wsgi.multiprocess": False}, lambda *_: lambda data: None)
    return body


# ---- ticker ----


def test_ticker(server: Server) -> None:
    """Message 1 to N, the closing text, and an event that ends the stream; who comes back then gets 204."""
    with server.reader("/demo/ticker?n=3&interval=0.01") as reader:
        events = reader.read_to_end()
    with server.reader("/demo/ticker?n=3&interval=0.01", last_event_id=reader.last_event_id) as again:
        assert again.status == 204

    assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream")
    assert [event.data for event in events[:-1]] == ["Message 1 of 3", "Message 2 of 3", "Message 3 of 3", "[DONE]"]
    assert (events[-1].event, events[-1].data) == ("done", '{"reason":"finished"}')


def test_ticker_resumes(server: Server) -> None:
    """A client that loses its connection goes on with the same run: nothing is missing, and nothing comes twice."""
    target = "/demo/ticker?n=4&interval=0.1"
    with server.reader(target) as reader:
        first = reader.read(2)
    with server.reader(target, last_event_id=reader.last_event_id) as again:
        rest = again.read_to_end()

    assert [event.data for event in first + rest[:-1]] == [*(f"Message {i} of 4" for i in range(1, 5)), "[DONE]"]


def test_ticker_by_default(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five messages, a second apart, are what a request without parameters gets."""
    asked: list[tuple[int, float]] = []

    def tick(number: int, interval: float, stopped: threading.Event) -> list[str]:
        asked.append((number, interval))
        return []

    monkeypatch.setattr(demo_resources, "tick", tick)
    body = iter(respond(app_of(hub), "/demo/ticker"))

    assert b"done" in b"".join(body)
    assert asked == [(5, 1.0)]


@pytest.mark.parametrize("path", ["/demo/ticker", "/demo/echo?sent=a", "/demo/counter"])
def test_a_head_runs_nothing(client: TestClient, hub: Hub, path: str) -> None:
    """A HEAD request gets the head of the stream, and no run is started for it."""
    result = client.simulate_head(path, extras={"wsgi.multiprocess": False})

    assert (result.status_code, result.headers["content-type"]) == (200, "text/event-stream")
    assert hub.stats()["producers_started"] == 0


def test_a_run_that_is_stopped_ends_at_once(hub: Hub) -> None:
    """Whoever stops it does not wait for the next message."""
    body = iter(respond(app_of(hub), "/demo/ticker", "interval=10"))
    next(body)
    (topic,) = (name for name in hub.topics() if name.startswith("run/"))
    assert hub.stop(topic)
    parser = EventParser()
    events = [event for chunk in body for event in parser.feed(chunk)]

    assert [(event.event, event.data) for event in events] == [("done", '{"reason":"stopped"}')]
    wait_until(lambda: hub.stats()["producers"] == 0)


# ---- echo ----


def test_echo_to_a_python_client(server: Server) -> None:
    """A sentence in Chinese arrives character by character at a client that is not ours, then the end."""
    transport = httpx.HTTPTransport(uds=server.socket_path)
    with (
        httpx.Client(transport=transport, base_url="http://localhost", timeout=TIMEOUT) as client,
        connect_sse(client, "GET", "/demo/echo", params={"sent": SENTENCE, "interval": "0.01"}) as source,
    ):
        # It reports blocks without data, too, which a browser does not dispatch.
        events = [(each.event, each.data) for each in source.iter_sse() if each.data]

    assert events == [*(("message", character) for character in SENTENCE), ("done", '{"reason":"finished"}')]


def test_echo_to_our_parser(server: Server) -> None:
    """The same through the kit's own parser: text of several scripts, and what is special on the wire."""
    sent = "नमस्ते 👩‍👩‍👧\n: data\r\n"
    with server.reader(f"/demo/echo?interval=0&sent={quote(sent)}") as reader:
        events = reader.read_to_end()

    assert {event.event for event in events[:-1]} == {"message"}
    # A client gets LF for every end of line.
    assert [event.data for event in events[:-1]] == [
        *("न", "म", "स्ते", " ", "👩‍👩‍👧", "\n", ":", " ", "d", "a", "t", "a", "\n"),
    ]


@pytest.mark.parametrize(
    "characters",
    [
        [*SENTENCE],
        ["e\u0301", "o\u0308\u0304"],
        ["한", "\u1112\u1161\u11ab"],
        ["க்", "ஷி"],
        ["กำ", "ที่"],
        ["👨‍👩‍👧‍👦", "👍🏽", "🇫🇷", "🇨🇳", "❤️"],
        ["שָׁ", "ל"],
        ["\r\n", "\t", "\x00"],
    ],
)
def test_what_a_character_is(characters: list[str]) -> None:
    """It is what a reader takes for one, in any script, however many code points that is."""
    assert [each["data"] for each in echo("".join(characters), 0, threading.Event())] == characters


def test_echo_that_is_stopped() -> None:
    """It waits between characters, not before the first, and ends when it is stopped."""
    stopped = threading.Event()
    source = echo("ab", 3600, stopped)

    assert next(source) == {"event": "message", "data": "a"}
    stopped.set()
    assert list(source) == []


# ---- parameters ----


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ticker?n=0", {"field": "n", "limit": "max_demo_events", "value": 1000}),
        ("ticker?n=1001", {"field": "n", "limit": "max_demo_events", "value": 1000}),
        ("ticker?n=1_0", {"field": "n", "limit": "max_demo_events", "value": 1000}),
        ("ticker?n=%D9%A5", {"field": "n", "limit": "max_demo_events", "value": 1000}),
        ("ticker?n=" + "9" * 5000, {"field": "n", "limit": "max_demo_events", "value": 1000}),
        ("ticker?interval=-1", {"field": "interval", "limit": "max_demo_interval", "value": 10}),
        ("ticker?interval=10.1", {"field": "interval", "limit": "max_demo_interval", "value": 10}),
        ("ticker?interval=nan", {"field": "interval", "limit": "max_demo_interval", "value": 10}),
        ("echo?sent=a&interval=inf", {"field": "interval", "limit": "max_demo_interval", "value": 10}),
        ("echo?sent=a&interval=soon", {"field": "interval", "limit": "max_demo_interval", "value": 10}),
        ("echo", {"field": "sent"}),
        ("echo?sent=", {"field": "sent"}),
        ("echo?sent=%ff", {"field": "sent"}),
    ],
)
def test_wrong_parameters(client: TestClient, hub: Hub, query: str, expected: dict[str, Any]) -> None:
    """A parameter that is missing, no number or out of bounds is a 400 that names it, its bound and the bound's value."""
    result = client.simulate_get("/demo/" + query)

    assert result.status_code == 400
    assert result.json["type"] == "urn:sse-kit:problem:invalid-parameter"
    assert {name: result.json[name] for name in ("field", "limit", "value") if name in result.json} == expected
    assert hub.stats()["producers_started"] == 0


def test_too_long_a_text(client: TestClient, hub: Hub) -> None:
    """A text beyond the bound is a 413 that names it."""
    result = client.simulate_get("/demo/echo", params={"sent": "你" * 1001})

    assert (result.status_code, result.json["type"]) == (413, "urn:sse-kit:problem:too-large")
    assert [result.json[name] for name in ("field", "limit", "value")] == ["sent", "max_demo_characters", 1000]
    assert hub.stats()["producers_started"] == 0


@pytest.mark.parametrize("path", ["/demo/ticker", "/demo/echo?sent=a", "/demo/counter"])
def test_only_streams(client: TestClient, hub: Hub, path: str) -> None:
    """Who accepts no event stream gets 406, and nothing is started."""
    result = client.simulate_get(path, headers={"Accept": "application/json"})

    assert (result.status_code, result.json["title"]) == (406, "Not Acceptable")
    assert hub.stats()["producers_started"] == 0


def test_what_is_not_there(client: TestClient) -> None:
    """Other topics under demo/ are nobody's, and no client publishes there."""
    listened = client.simulate_get("/events?topic=demo/other")
    published = client.simulate_post("/publish", json={"topic": "demo/counter", "data": "message counter - 7"})

    assert (listened.status_code, published.status_code) == (400, 403)
    assert {listened.json["type"], published.json["type"]} == {"urn:sse-kit:problem:reserved-topic"}


# ---- counter ----


def test_counter_for_all_viewers(server: Server) -> None:
    """Two viewers see the same events; one that comes back misses none."""
    with server.reader("/demo/counter") as one, server.reader("/events?topic=demo/counter") as other:
        first = one.read(3)
        seen = other.read(5)
    with server.reader("/demo/counter", last_event_id=one.last_event_id) as again:
        missed = again.read(2)

    numbers = [int((event.data or "").removeprefix("message counter - ")) for event in first + missed]
    assert numbers == [*range(numbers[0], numbers[0] + 5)]
    assert set(first) & set(seen)


class CountingHub(Hub):
    """A hub that says what a test likes of who listens, and keeps what is published."""

    def __init__(self, backplane: Backplane | None = None, *, listeners: int = 1) -> None:
        super().__init__(backplane)
        self.listeners = listeners
        self.looked = 0
        self.changed = threading.Condition()
        self.errors: list[Exception] = []
        self.numbers: list[int] = []

    @property
    def streams(self) -> int:
        with self.changed:
            self.looked += 1
            self.changed.notify_all()
        return self.listeners

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        items = list(items)
        with self.changed:
            if self.errors and isinstance(self.errors[0], BusyError):
                raise self.errors.pop(0)
        receipts = super().publish_many(items)
        with self.changed:
            for (topic, event), receipt in zip(items, receipts, strict=True):
                assert topic == "demo/counter"
                if not receipt.duplicate:
                    self.numbers.append(int((event.data or "").removeprefix("message counter - ")))
            self.changed.notify_all()
            if self.errors:
                raise self.errors.pop(0)
        return receipts

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT)


Count = Callable[..., Counter]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    """Start a counter on a hub."""
    monkeypatch.setattr(module, "STEP_SECONDS", 0.01)
    monkeypatch.setattr(duty_module, "STANDBY_SECONDS", 0.01)
    started: list[tuple[Counter, Hub]] = []

    def start(hub: CountingHub, **settings: Any) -> Counter:
        counter = Counter(hub, Settings(demo_counter_interval=0.01, **settings))
        started.append((counter, hub))
        counter.start()
        return counter

    yield start
    for counter, hub in started:
        counter.close()
        hub.close()


def test_counter_rests(count: Count) -> None:
    """While nobody listens it does not count, and then goes on where it was."""
    hub = CountingHub(listeners=0)
    count(hub)
    hub.wait_for(lambda: hub.looked >= 3)
    assert hub.numbers == []
    hub.listeners = 1
    hub.wait_for(lambda: len(hub.numbers) >= 2)
    hub.listeners = 0
    looked = hub.looked
    hub.wait_for(lambda: hub.looked >= looked + 3)
    rested = list(hub.numbers)
    hub.listeners = 1
    hub.wait_for(lambda: len(hub.numbers) >= len(rested) + 2)

    assert hub.numbers == [*range(len(hub.numbers))]


@pytest.mark.parametrize("error", [BusyError(0.01), BackplaneError(0.01, "away")])
def test_counter_leaves_no_number_out(count: Count, error: Exception) -> None:
    """Whether a number was refused, or nobody knows whether it was published: it comes once, and the next follows."""
    hub = CountingHub()
    hub.errors = [error] * 3
    count(hub)
    hub.wait_for(lambda: len(hub.numbers) >= 4 and not hub.errors)

    assert hub.numbers == [*range(len(hub.numbers))]


class LosingBackplane(MemoryBackplane):
    """Loses the lease at every third note, as if the process had died there."""

    notes = 0

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        if note is not None:
            self.notes += 1
            if self.notes % 3 == 0:
                raise BackplaneError(0.0, "away")
        return super().hold(lease, seconds, note)


def test_counter_that_dies(count: Count) -> None:
    """One that goes on after another counts each number once, wherever the other one died."""
    hub = CountingHub(LosingBackplane())
    count(hub)
    hub.wait_for(lambda: len(hub.numbers) >= 6)

    assert hub.numbers == [*range(len(hub.numbers))]


def test_one_of_several_workers_counts(count: Count) -> None:
    """On one Redis one worker counts for the viewers of all, and another goes on after it."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
        first = CountingHub(RedisBackplane(redis.url))
        second = CountingHub(RedisBackplane(redis.url))
        counters = [count(hub, backplane=redis.url) for hub in (first, second)]
        first.wait_for(lambda: len(first.numbers) >= 3)
        assert second.numbers == []
        first.drain(0)
        second.wait_for(lambda: len(second.numbers) >= 2)
        for counter in counters:
            counter.close()

    numbers = first.numbers + second.numbers
    assert numbers == [*range(len(numbers))]
