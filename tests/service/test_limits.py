"""What one client may take of a process, each limit at its bound and one past it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient
from pydantic import ValidationError

from sse_core import Hub
from sse_kit.limits import LIMITS, Rates, Reached, Runs
from sse_kit.metrics import FAMILIES
from sse_kit.names import TopicNames
from sse_kit.problems import Problem
from sse_kit.server import gunicorn_settings
from sse_kit.settings import Settings
from tests.application import app_of

ROOT = Path(__file__).parents[2]
KIND = "urn:sse-kit:problem:"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
ONE_PROCESS = {"wsgi.multiprocess": False}
#: Over TCP, from an address that is nobody's proxy.
FOREIGN: dict[str, Any] = {**ONE_PROCESS, "REMOTE_ADDR": "198.51.100.7"}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def publish(client: TestClient, topic: str = "a", extras: dict[str, Any] = FOREIGN) -> Any:
    return client.simulate_post("/publish", body=json.dumps({"topic": topic, "data": 1}), headers=JSON, extras=extras)


def reached(client: TestClient, limit: str) -> float:
    """How often a limit was reached, by the metrics."""
    for line in client.simulate_get("/metrics").text.splitlines():
        if line.startswith(f'sse_kit_limit_reached_total{{limit="{limit}"}} '):
            return float(line.rpartition(" ")[2])
    raise LookupError(limit)


class TestRates:
    def test_a_burst_and_then_the_rate(self) -> None:
        """A client has its burst at once, nothing more, and then as much as time has brought."""
        clock = Clock()
        rates = Rates(10, 20, clock)
        rates.take("a", 20)
        with pytest.raises(Problem) as caught:
            rates.take("a", 1)
        clock.now = 0.1
        rates.take("a", 1)
        with pytest.raises(Problem):
            rates.take("a", 1)

        assert caught.value.status_code == 429
        assert caught.value.headers is not None
        assert dict(caught.value.headers)["Retry-After"] == "1"

    def test_what_is_refused_costs_nothing(self) -> None:
        """A refusal takes nothing from the client, or whoever asks again and again would never be let in."""
        clock = Clock()
        rates = Rates(1, 10, clock)
        rates.take("a", 5)
        for _ in range(100):
            with pytest.raises(Problem):
                rates.take("a", 6)
        rates.take("a", 5)

    def test_a_pause_is_worth_a_burst_at_most(self) -> None:
        """However long a client was silent, it has one burst."""
        clock = Clock()
        rates = Rates(10, 20, clock)
        rates.take("a", 20)
        clock.now = 1e6
        rates.take("a", 20)
        with pytest.raises(Problem):
            rates.take("a", 1)

    def test_each_client_has_its_own(self) -> None:
        """What one takes is not another's, and who is nobody in particular is not limited."""
        rates = Rates(1, 1, Clock())
        rates.take("a", 1)
        rates.take("b", 1)
        for _ in range(10):
            rates.take(None, 100)

    def test_clients_are_forgotten(self) -> None:
        """However many clients there have been, what is remembered of them is bounded; the least recent goes."""
        rates = Rates(1, 1, Clock())
        for number in range(10_001):
            rates.take(str(number), 1)
        rates.take("0", 1)
        with pytest.raises(Problem):
            rates.take("10000", 1)

    def test_no_rate(self) -> None:
        """A rate of 0 limits nobody."""
        rates = Rates(0, 1, Clock())
        rates.take("a", 1_000_000)
        assert not rates


class TestRuns:
    def test_the_last_place_and_no_more(self) -> None:
        """A client has so many places; who leaves gives one back, once."""
        runs = Runs(2)
        first, _second = runs.enter("a"), runs.enter("a")
        with pytest.raises(Problem) as caught:
            runs.enter("a")
        runs.enter("b").leave()
        first.leave()
        first.leave()
        runs.enter("a")
        with pytest.raises(Problem):
            runs.enter("a")

        assert (caught.value.status_code, caught.value.members["limit"]) == (429, "max_producers_per_client")
        assert len(runs) == 2

    def test_a_source_leaves_when_it_is_closed(self) -> None:
        """A run's place is its client's until the source is closed, whether it was ever asked for an item or not."""
        closed: list[str] = []

        def source() -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append("x")

        runs = Runs(1)
        asked = runs.enter("a").of(source)
        items = iter(asked)
        assert next(items) == 1
        assert len(runs) == 1
        items.close()  # type: ignore[attr-defined]
        assert (closed, len(runs)) == (["x"], 0)
        runs.enter("a").of(source).close()  # type: ignore[attr-defined]
        assert (closed, len(runs)) == (["x"], 0)

    def test_what_a_generator_returns_passes(self) -> None:
        """The result of a run is that of its generator, whatever counts it."""

        def source() -> Iterator[int]:
            yield 1
            return {"a": 1}  # type: ignore[return-value]

        items = iter(Runs(1).enter("a").of(source))
        assert next(items) == 1
        with pytest.raises(StopIteration) as end:
            next(items)
        assert end.value.value == {"a": 1}

    def test_a_hub_gives_the_place_back(self, hub: Hub) -> None:
        """When a run has ended, in whatever way, its client may start another."""
        runs = Runs(1)
        gate = threading.Event()

        def waits() -> Iterator[str]:
            gate.wait(60)
            yield "x"

        for _ in range(3):
            gate.clear()
            producer = hub.produce(runs.enter("a").of(waits))
            with pytest.raises(Problem):
                runs.enter("a")
            gate.set()
            assert producer.wait(60)
            wait_until_empty(runs)


def wait_until_empty(runs: Runs) -> None:
    ended = threading.Event()
    for _ in range(3000):
        if not len(runs):
            return
        ended.wait(0.02)
    raise AssertionError("a run has kept its place")


class TestPublishing:
    def test_beats_of_the_doctor_count(self, hub: Hub) -> None:
        """Who may publish nothing fills no histories by asking for beats: these are events of its own like any others."""
        client = TestClient(app_of(hub, Settings(publish_rate=0.001, publish_burst=3, max_batch_events=3)))
        beats = [client.simulate_post(f"/doctor/{number:032x}", extras=FOREIGN) for number in range(4)]

        assert [beat.status_code for beat in beats] == [200, 200, 200, 429]
        assert (len(hub.topics()), reached(client, "publish_rate")) == (3, 1)

    def test_rate(self, hub: Hub) -> None:
        """A client that publishes too fast gets 429 with the time to wait; nothing of the request is published."""
        client = TestClient(app_of(hub, Settings(publish_rate=0.001, publish_burst=3, max_batch_events=3)))
        assert [publish(client).status_code for _ in range(3)] == [200, 200, 200]
        refused = publish(client)
        lines = client.simulate_post("/publish", body=b'{"topic":"a","data":1}\n' * 2, headers=NDJSON, extras=FOREIGN)

        assert (refused.status_code, refused.json["type"]) == (429, KIND + "too-many-requests")
        assert (refused.json["limit"], int(refused.headers["Retry-After"])) == ("publish_rate", 1000)
        assert lines.status_code == 429
        assert hub.stats()["events_published"] == 3
        assert reached(client, "publish_rate") == 2
        # Others have their own, and one of ours has none.
        assert publish(client, extras={**ONE_PROCESS, "REMOTE_ADDR": "198.51.100.8"}).status_code == 200
        assert {publish(client, extras=ONE_PROCESS).status_code for _ in range(5)} == {200}

    def test_a_burst_holds_a_batch(self) -> None:
        """Settings under which a full batch could never be published are refused."""
        with pytest.raises(ValidationError, match="publish_burst"):
            Settings(publish_burst=999)
        Settings(publish_burst=1000)
        Settings(publish_burst=1, publish_rate=0)

    @pytest.mark.parametrize(
        ("settings", "taken", "refused"),
        [
            ({"max_topic_bytes": 4}, ["abcd", "ää"], ["abcde", "ääa"]),
            ({"topic_characters": "url"}, ["a/b:c~d_e-f.g@h", "Z9"], ["a b", "ä", "a\\b", "a%"]),
            ({"topic_characters": "ascii"}, ["a b%\\"], ["ä"]),
            ({"topic_characters": "[a-c]"}, ["abc"], ["abd", "A"]),
            ({"topic_characters": "[^x]"}, ["abc\u00e4"], ["axb"]),
        ],
    )
    def test_names(self, hub: Hub, settings: dict[str, Any], taken: list[str], refused: list[str]) -> None:
        """A topic's name has the length and the alphabet of the settings, published to, batched or listened to."""
        client = TestClient(app_of(hub, Settings(**settings)))
        for topic in taken:
            assert publish(client, topic).status_code == 200
        for topic in refused:
            result = publish(client, topic)
            line = json.dumps({"topic": topic, "data": 1}).encode()
            lines = client.simulate_post("/publish", body=b'{"topic":"a","data":1}\n' + line, headers=NDJSON)
            stream = client.simulate_get("/events", params={"topic": topic})

            assert (result.status_code, result.json["type"]) == (422, KIND + "invalid-topic")
            assert (lines.status_code, lines.json["line"]) == (422, 2)
            assert (stream.status_code, stream.json["type"]) == (400, KIND + "invalid-topic")
        (limit,) = settings
        assert result.json["limit"] == lines.json["limit"] == stream.json["limit"] == limit
        assert reached(client, limit) == 3 * len(refused)

    @pytest.mark.parametrize("characters", ["", "abc", "[a", "[a]b", "[z-a]", "[]", "(a+)+"])
    def test_an_alphabet_is_one_class(self, characters: str) -> None:
        """An alphabet is a name or one character class, so matching is linear; anything else is refused at the start."""
        with pytest.raises(ValidationError, match="topic_characters"):
            Settings(topic_characters=characters)

    def test_the_servers_own_names(self) -> None:
        """What the server names itself is not asked: a watched key may have any name."""
        TopicNames(1, "[a]").check("watch/price in EUR")

    @pytest.mark.parametrize("path", ["/publish", "/jobs?name=a", "/generate", "/session"])
    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "x-bomb"])
    def test_a_compressed_body(self, hub: Hub, path: str, coding: str) -> None:
        """A compressed body is refused unread: a few bytes of it can be a gigabyte."""
        settings = Settings(tokens={"a": "x" * 16})
        headers = {"Content-Encoding": coding, "Authorization": "Bearer " + "x" * 16}
        headers["Content-Type"] = "application/octet-stream" if path.startswith("/jobs") else "application/json"
        result = TestClient(app_of(hub, settings)).simulate_post(path, body=b"\x1f\x8b" + b"\0" * 100, headers=headers)

        assert (result.status_code, result.headers["Accept-Encoding"]) == (415, "identity")


class TestTable:
    """docs/operations.md, "Limits", is what the code does."""

    @pytest.fixture
    def rows(self) -> list[dict[str, str]]:
        text = (ROOT / "docs/operations.md").read_text("utf-8").partition("## Limits")[2].partition("\n## ")[0]
        lines = [line.strip("|").split("|") for line in text.partition("\n\n|")[2].partition("\n\n")[0].splitlines()]
        head, _, *rest = ([cell.strip() for cell in line] for line in lines)
        return [dict(zip(head, row, strict=True)) for row in rest]

    def test_settings_and_defaults(self, rows: list[dict[str, str]]) -> None:
        """Every limit of the table is a setting with the default that it says."""
        settings = Settings().model_dump()

        assert len(rows) > 20
        for row in rows:
            name = row["setting"].strip("`")
            assert str(settings[name]) == row["default"].strip("`"), name

    def test_metrics(self, hub: Hub, rows: list[dict[str, str]], tmp_path: Path) -> None:
        """Every metric of the table exists; what is counted as a limit is in the table, and what says so is counted."""
        text = TestClient(app_of(hub, Settings(logs={"a": tmp_path / "a"}))).simulate_get("/metrics").text
        shown = set(re.findall(r"^(sse_kit_\w+)", text, re.MULTILINE))
        named = {row["metric"].strip("`") for row in rows} - {""}
        counted = {row["setting"].strip("`") for row in rows if "limit_reached" in row["metric"]}

        assert named <= shown
        assert set(LIMITS) - counted == {"max_producers"}
        # A burst is the same limit as its rate.
        assert counted - set(LIMITS) == {"publish_burst"}


def test_gunicorn_has_the_bounds_of_a_head() -> None:
    """Address and header fields are bounded by the settings, before the application sees them."""
    found = gunicorn_settings(Settings(max_request_line_bytes=300, max_header_bytes=400, max_headers=20))

    assert found["limit_request_line"] == 300
    assert found["limit_request_field_size"] == 400
    assert found["limit_request_fields"] == 20


def test_limits_are_counted_by_name() -> None:
    """A limit that was never reached has a zero from the beginning."""
    counts = Reached(["a", "b"])
    counts.count("b")
    counts.count("b")

    assert counts.counts() == {"a": 0, "b": 2}


def test_quotas_are_a_metric() -> None:
    """Streams that were refused to a client are counted by the hub, too."""
    assert "quota_refused" in {key for family in FAMILIES for key in family.samples}
