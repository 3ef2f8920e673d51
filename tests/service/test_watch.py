from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError
from redis.client import PubSub

from sse_core import BackplaneError, Event, Hub, MemoryBackplane, Receipt, RedisBackplane
from sse_kit import duty as duty_module
from sse_kit import watcher as module
from sse_kit.namespaces import Namespaces
from sse_kit.settings import Settings
from sse_kit.watcher import FLAGS, Watcher
from tests.redisserver import RedisServer, redis_server, wait_until
from tests.servers import TIMEOUT, running_service

NOTIFIES = ("--notify-keyspace-events", FLAGS)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that sends notifications."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), options=NOTIFIES) as server:
        yield server


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins without keys, and ends quickly."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    if "redis" in request.fixturenames:
        request.getfixturevalue("redis").client().flushall()


class Published(NamedTuple):
    topic: str
    event: str | None
    data: dict[str, Any]


class RecordingHub(Hub):
    """A real hub that also keeps what was published through it, without duplicates."""

    def __init__(self, backplane: MemoryBackplane | RedisBackplane | None = None) -> None:
        super().__init__(backplane)
        self.changed = threading.Condition()
        self.published: list[Published] = []
        self.attempts = 0
        #: Raised, one after each call: what was published then is not known to the publisher.
        self.errors: list[Exception] = []

    def publish_many(self, items: Iterable[tuple[str, Event]]) -> list[Receipt]:
        items = list(items)
        receipts = super().publish_many(items)
        with self.changed:
            self.attempts += 1
            for (topic, event), receipt in zip(items, receipts, strict=True):
                if not receipt.duplicate:
                    self.published.append(Published(topic, event.event, json.loads(event.data or "")))
            self.changed.notify_all()
            if self.errors:
                raise self.errors.pop(0)
        return receipts

    @property
    def values(self) -> list[Any]:
        """The values that were published."""
        return [each.data["value"] for each in self.published]

    def wait_for_values(self, *values: str | None) -> None:
        """Wait until exactly these have come."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.published) >= len(values), TIMEOUT)
        assert self.values == list(values)


Watch = Callable[..., RecordingHub]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Start a watcher in a hub that is returned: of the key ``k``, unless other keys are given."""
    started: list[Watcher] = []
    hubs: list[RecordingHub] = []

    def start(
        server: RedisServer, hub: RecordingHub | None = None, *, keys: Iterable[str] = ("k",), **settings: Any
    ) -> RecordingHub:
        hub = hub or RecordingHub()
        hubs.append(hub)
        settings = {"watch_url": server.url, "watch_pause": 0.0} | settings
        watcher = Watcher(hub, Settings(watch_keys=tuple(keys), **settings))
        started.append(watcher)
        watcher.start()
        return hub

    yield start
    for watcher in started:
        watcher.close()
    for hub in hubs:
        hub.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "sse_kit.watcher" and record.levelname == "WARNING"
    ]


# ---- over HTTP ----


def test_a_key_is_streamed(redis: RedisServer) -> None:
    """The value of now comes first, then each change, as one event for all viewers; the same value again is no change."""
    redis.ask("SET", "current_price", 100)
    with running_service(watch_keys=["current_price", "a/ä"], watch_url=redis.url) as server:
        with server.reader("/watch/current_price") as one, server.reader("/events?topic=watch/current_price") as other:
            (first,) = one.read()
            redis.ask("SET", "current_price", 100)
            redis.ask("SET", "current_price", 102)
            (second,) = one.read()
            assert other.read(2) == [first, second]
            redis.ask("DEL", "current_price")
            (third,) = one.read()
        with server.reader("/watch/current_price") as late, server.reader("/watch/a/%C3%A4") as odd:
            (again,) = late.read()
            (absent,) = odd.read()
        listening = [each["sub"] for each in redis.client().client_list() if each["sub"] != "0"]
        unknown = server.request("GET", "/watch/other"), server.request("GET", "/events?topic=watch/other")
        metrics = server.request("GET", "/metrics").body.decode()

    def said(event: Event) -> dict[str, Any]:
        return {name: value for name, value in json.loads(event.data or "").items() if name != "ts"}

    assert [said(event) for event in (first, second, third)] == [
        {"key": "current_price", "value": value} for value in ("100", "102", None)
    ]
    assert first.event is None
    assert again == third
    assert said(absent) == {"key": "a/ä", "value": None}
    # One connection for both keys, whoever looks.
    assert listening == ["2"]
    assert re.findall(r"^(sse_kit_watch_\w+) (.*)", metrics, re.MULTILINE) == [
        ("sse_kit_watch_changes_total", "4.0"),
        ("sse_kit_watch_held", "1.0"),
        ("sse_kit_watch_notified", "1.0"),
    ]
    for answer in unknown:
        assert answer.status == 404
        assert answer.json() == {
            "type": "urn:sse-kit:problem:unknown-key",
            "title": "There is no such key",
            "status": 404,
            "detail": "No key named 'other' is watched here.",
        }


# ---- values ----


def test_every_way_to_change_a_string_is_seen(redis: RedisServer, watch: Watch) -> None:
    """Set, count, append, expire, rename, delete: what the key holds then is published."""
    hub = watch(redis)
    hub.wait_for_values(None)
    values: list[str | None] = [None]
    for command, value in [
        ("SET k 1", "1"),
        ("INCR k", "2"),
        ("APPEND k 0", "20"),
        ("SETRANGE k 1 1", "21"),
        ("RENAME k other", None),
        ("COPY other k", "21"),
        ("GETDEL k", None),
        ("MSET k ü other x", "ü"),
        ("PEXPIRE k 1", None),
    ]:
        redis.ask(*command.split())
        values.append(value)
        hub.wait_for_values(*values)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("RPUSH", "k", "x"), "type"),
        (("SET", "k", "x" * 65), "too-large"),
        (("SET", "k", b"\xff"), "not-text"),
    ],
)
def test_what_cannot_be_shown_is_told(redis: RedisServer, watch: Watch, command: tuple[Any, ...], reason: str) -> None:
    """Another type, a long value and one that is no text are an event ``unsupported`` with the reason, and no value."""
    redis.ask(*command)
    hub = watch(redis, max_watch_value_bytes=64)
    redis.ask("SET", "k", "y" * 64)
    with hub.changed:
        assert hub.changed.wait_for(lambda: len(hub.published) == 2, TIMEOUT)
    first, second = hub.published

    assert (first.topic, first.event, first.data["key"], first.data["reason"]) == (
        "watch/k",
        "unsupported",
        "k",
        reason,
    )
    assert first.data.keys() == {"key", "reason", "detail", "ts"}
    assert (second.event, second.data["value"]) == (None, "y" * 64)


def test_keys_of_another_database_are_others(redis: RedisServer, watch: Watch) -> None:
    """The URL's database is the one that is watched."""
    hub = watch(redis, watch_url=f"redis://127.0.0.1:{redis.port}/3")
    hub.wait_for_values(None)
    redis.ask("SET", "k", "of database 0")
    with redis.client(db=3) as client:
        client.set("k", "of database 3")

    hub.wait_for_values(None, "of database 3")


def test_a_burst_is_bounded(redis: RedisServer, watch: Watch) -> None:
    """A key that changes all the time is published now and then, its last value always."""
    hub = watch(redis, watch_pause=0.1)
    hub.wait_for_values(None)
    with redis.client().pipeline(transaction=False) as pipeline:
        for number in range(2000):
            pipeline.set("k", number)
        pipeline.execute()
    with hub.changed:
        assert hub.changed.wait_for(lambda: hub.values[-1] == "1999", TIMEOUT)

    assert len(hub.values) < 200


# ---- notifications ----


@pytest.fixture
def silent(redis: RedisServer) -> Iterator[RedisServer]:
    """The same server, without notifications."""
    redis.ask("CONFIG", "SET", "notify-keyspace-events", "Kg")
    yield redis
    redis.ask("CONFIG", "SET", "notify-keyspace-events", FLAGS)


def flags(server: RedisServer) -> set[str]:
    return set(server.client().config_get("notify-keyspace-events")["notify-keyspace-events"])


def test_without_notifications_keys_are_polled(
    silent: RedisServer, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that does not send them is left as it is: a warning says so, and the keys are read again and again."""
    hub = watch(silent, watch_interval=0.02)
    silent.ask("SET", "k", 1)
    hub.wait_for_values(None, "1")

    assert flags(silent) == set("gK")
    (warning,) = warnings(caplog)
    assert "no keyspace notifications" in warning
    assert "lacks '$xe'" in warning


def test_a_server_may_be_configured(silent: RedisServer, watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """With ``watch_configure`` the server is told to send what is missing, and goes on with what it had."""
    silent.ask("CONFIG", "SET", "notify-keyspace-events", "KEg")
    hub = watch(silent, watch_configure=True, watch_interval=3600)
    silent.ask("SET", "k", 1)
    hub.wait_for_values(None, "1")

    assert flags(silent) == set("KEg$xe")
    assert warnings(caplog) == []


def test_a_server_that_tells_nobody_its_settings(
    redis: RedisServer, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody may ask how notifications are set, keys are polled, and the log says why."""
    redis.ask("ACL", "SETUSER", "watcher", "on", ">secret", "~*", "&*", "+@all", "-config")
    hub = watch(redis, watch_url=f"redis://watcher:secret@127.0.0.1:{redis.port}/0", watch_interval=0.02)
    redis.ask("SET", "k", 1)
    hub.wait_for_values(None, "1")

    (warning,) = warnings(caplog)
    assert "cannot be read or set" in warning
    assert "secret" not in warning


def test_all_keys_are_read_now_and_then(redis: RedisServer, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is never notified, as FLUSHALL, is found in time."""
    redis.ask("SET", "k", 1)
    monkeypatch.setattr(module, "READ_SECONDS", 0.02)
    hub = watch(redis)
    hub.wait_for_values("1")
    redis.ask("FLUSHALL")

    hub.wait_for_values("1", None)


def test_a_connection_that_listens_in_vain(redis: RedisServer, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one connection may be cut at any time: keys are read when it is there again, and nothing is said twice."""
    redis.ask("SET", "k", 1)
    hub = watch(redis)
    hub.wait_for_values("1")
    for number in range(2, 5):
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        redis.ask("SET", "k", number)
        hub.wait_for_values(*map(str, range(1, number + 1)))


def test_a_connection_that_is_silent_is_replaced(
    redis: RedisServer, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One over which no answer comes, though the server is there, is given up, and the keys are watched over another."""
    monkeypatch.setattr(module, "READ_SECONDS", 0.02)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    with monkeypatch.context() as cut_off:
        # As if it went nowhere.
        cut_off.setattr(PubSub, "ping", lambda self: None)
        hub = watch(redis)
        wait_until(lambda: warnings(caplog), "the connection was given up")
    redis.ask("SET", "k", 1)

    hub.wait_for_values(None, "1")
    assert "does not answer" in warnings(caplog)[0]


def test_redis_restarts(watch: Watch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is away nothing is said of its keys; afterwards what has changed is, once, and the rest is not."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), aof=True, options=NOTIFIES) as server:
        server.ask("MSET", "same", 1, "other", 1)
        hub = watch(server, keys=("same", "other"))
        with hub.changed:
            assert hub.changed.wait_for(lambda: len(hub.published) == 2, TIMEOUT)
        server.stop()
        server.start()
        wait_until(lambda: server.ask("SET", "other", 2), "the server has read what it had")
        server.ask("SET", "same", 1)
        with hub.changed:
            assert hub.changed.wait_for(lambda: len(hub.published) == 3, TIMEOUT)
        server.ask("SET", "same", 3)
        with hub.changed:
            assert hub.changed.wait_for(lambda: len(hub.published) == 4, TIMEOUT)

    assert {each.topic for each in hub.published[:2]} == {"watch/same", "watch/other"}
    assert [(each.topic, each.data["value"]) for each in hub.published[2:]] == [
        ("watch/other", "2"),
        ("watch/same", "3"),
    ]


def test_a_redis_that_is_away_at_first(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A viewer is served before the keys can be read; the log says once that they cannot."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), options=NOTIFIES) as server:
        server.stop()
        hub = watch(server)
        server.start()
        server.ask("SET", "k", 1)
        with hub.changed:
            assert hub.changed.wait_for(lambda: hub.values and hub.values[-1] == "1", TIMEOUT)
        told = [text for text in warnings(caplog) if "cannot be asked" in text]

    assert len(told) == 1


# ---- several workers ----


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look at their lease often."""
    monkeypatch.setattr(duty_module, "STANDBY_SECONDS", 0.02)


def test_one_of_several_workers_publishes(redis: RedisServer, watch: Watch, quick: None) -> None:
    """A change is one event; when the worker ends, another goes on, and does not repeat what was said."""

    def worker() -> RecordingHub:
        return RecordingHub(RedisBackplane(redis.url))

    redis.ask("MSET", "k", 1, "l", 1)
    url = {"backplane": redis.url, "keys": ("k", "l")}
    first = watch(redis, worker(), **url)
    second = watch(redis, worker(), **url)
    redis.ask("SET", "k", 2)
    with first.changed:
        assert first.changed.wait_for(lambda: len(first.published) == 3, TIMEOUT)
    first.drain(0)
    redis.ask("SET", "k", 3)
    with second.changed:
        assert second.changed.wait_for(lambda: second.published, TIMEOUT)
    redis.ask("SET", "l", 4)
    with second.changed:
        assert second.changed.wait_for(lambda: len(second.published) == 2, TIMEOUT)

    assert first.values == ["1", "1", "2"]
    assert [(each.topic, each.data["value"]) for each in second.published] == [("watch/k", "3"), ("watch/l", "4")]


def test_a_backplane_that_has_forgotten_all_is_told_again(
    redis: RedisServer, watch: Watch, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the history is lost, the values are published anew: who comes now has to get them."""
    monkeypatch.setattr(duty_module, "RENEW_SECONDS", 0.02)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as other:
        redis.ask("SET", "k", 1)
        hub = watch(redis, RecordingHub(RedisBackplane(other.url)), backplane=other.url)
        hub.wait_for_values("1")
        other.ask("FLUSHALL")

        hub.wait_for_values("1", "1")


class DyingBackplane(MemoryBackplane):
    """After so many notes more (``left``) one fails, as if its writer had died there; then calls ``meanwhile``."""

    left: int | None = None
    meanwhile: Callable[[], object]

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        if note is not None and self.left is not None:
            if self.left == 0:
                self.left = None
                self.meanwhile()
                raise BackplaneError(0.01, "away")
            self.left -= 1
        return super().hold(lease, seconds, note)


@pytest.mark.parametrize(
    ("left", "meanwhile", "attempts", "values"),
    [
        # Before it has published, or after; and its successor finds the same value, or again the one before.
        (0, "GET", 2, (None, "1", "2")),
        (1, "GET", 3, (None, "1", "2")),
        (0, "DEL", 1, (None, "2")),
        (1, "DEL", 3, (None, "1", None, "2")),
    ],
)
def test_a_worker_that_dies_while_it_publishes(
    redis: RedisServer, watch: Watch, left: int, meanwhile: str, attempts: int, values: tuple[str | None, ...]
) -> None:
    """Wherever it dies: viewers see each value once, and the newest last."""
    backplane = DyingBackplane()
    hub = watch(redis, RecordingHub(backplane))
    hub.wait_for_values(None)
    took_over = threading.Event()

    def pass_time() -> None:
        redis.ask(meanwhile, "k")
        took_over.set()

    backplane.meanwhile = pass_time
    backplane.left = left
    redis.ask("SET", "k", 1)
    assert took_over.wait(TIMEOUT)
    with hub.changed:
        assert hub.changed.wait_for(lambda: hub.attempts == attempts, TIMEOUT)
    redis.ask("SET", "k", 2)

    hub.wait_for_values(*values)


def test_a_publish_of_unknown_outcome(redis: RedisServer, watch: Watch) -> None:
    """A value that was published, though its publisher was told nothing, is not published twice."""
    hub = watch(redis)
    hub.wait_for_values(None)
    hub.errors = [BackplaneError(0.01, "away")] * 2
    redis.ask("SET", "k", 1)
    hub.wait_for_values(None, "1")
    redis.ask("SET", "k", 2)

    hub.wait_for_values(None, "1", "2")
    assert hub.errors == []


# ---- settings ----


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "needs a Redis"),
        ({"backplane": "redis+cluster://:secret@a:1,b:2"}, "a Cluster"),
        ({"watch_url": "redis+cluster://:secret@a:1"}, "a Cluster"),
        ({"watch_url": "http://:secret@a"}, "is expected"),
        ({"watch_url": "memory"}, "a Redis has the keys"),
        ({"watch_keys": ["a\n"], "watch_url": "redis://:secret@a"}, "cannot be watched"),
        ({"watch_keys": [""], "watch_url": "redis://:secret@a"}, "cannot be watched"),
        ({"watch_keys": ["x" * 195], "watch_url": "redis://:secret@a"}, "200 bytes"),
        ({"watch_keys": [str(i) for i in range(65)], "watch_url": "redis://:secret@a"}, "64"),
        ({"max_watch_value_bytes": 43_350, "watch_url": "redis://:secret@a"}, "max_watch_value_bytes must be at most"),
    ],
)
def test_what_cannot_be_watched_is_refused_at_the_start(wrong: dict[str, Any], reason: str) -> None:
    """Settings that could not work are refused by name, and without the password."""
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings(**{"watch_keys": ("k",), **wrong})

    assert "secret" not in str(caught.value)


def test_the_largest_value_can_be_published(redis: RedisServer, watch: Watch) -> None:
    """The bounds of a value and of an event agree, whatever the bytes are and however long the key is."""
    key = "\N{CYRILLIC CAPITAL LETTER ZHE}" * 97
    largest = 43_349
    redis.ask("SET", key, "\x01" * largest)
    hub = watch(redis, keys=(key,), max_watch_value_bytes=largest)

    hub.wait_for_values("\x01" * largest)


def test_the_backplane_s_redis_is_the_default() -> None:
    """Keys are those of the backplane's server, unless another one is named."""
    backplane = "redis://backplane.invalid/0"
    own = "redis+sentinel://a.invalid:1/service/2"

    assert Settings(watch_keys=("k",), backplane=backplane).watch_place == backplane
    assert Settings(watch_keys=("k",), backplane=backplane, watch_url=own).watch_place == own


def test_nothing_is_connected_before_somebody_asks() -> None:
    """Namespaces with watched keys are a value: their Redis need not be there."""
    Namespaces(Settings(watch_keys=("k",), watch_url="redis://nowhere.invalid")).close()
