from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from falcon.testing import Result, TestClient

from sse_core import BackplaneError, Event, EventParser, EventStream, Hub
from sse_kit.settings import Settings
from tests.application import app_of
from tests.redisserver import redis_server, wait_until
from tests.servers import Server, running_service
from tests.service.llm.vendor import WAIT, Vendor, chunks, completion, openai_answer, refused, vendor

JSON = {"Content-Type": "application/json"}
# Falcon's test client says that there are several, for which a hub in memory is wrong.
ONE_PROCESS = {"wsgi.multiprocess": False}
TEXT = "one two three four five six seven eight nine ten"
WORDS = ["one", *(f" {word}" for word in TEXT.split()[1:])]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Vendor]:
    """A provider's server, to be told what it answers."""
    with vendor(chunks()) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Vendor) -> Iterator[Server]:
    """A real service with that provider, beside the echo."""
    options = {"openai_model": "m-1", "openai_base_url": f"{upstream.url}/v1", "openai_api_key": "sk-1"}
    with running_service(echo_interval=0.02, llm_retries=0, **options) as service:
        yield service


def ask(service: Server, prompt: str = TEXT, **members: Any) -> dict[str, str]:
    """Start a generation; where it is."""
    answer = service.request("POST", "/generate", json.dumps({"prompt": prompt, **members}).encode(), JSON)
    assert answer.status == 202, answer
    places: dict[str, str] = answer.json()
    assert answer.headers["location"] == places["events"]
    return places


def data(events: list[Event]) -> list[Any]:
    return [json.loads(event.data or "") for event in events]


def tokens(events: list[Event]) -> list[str]:
    return [json.loads(event.data or "")["token"] for event in events if event.event is None]


class TestAnswers:
    """What comes of a question, over real HTTP."""

    def test_a_whole_answer(self, service: Server) -> None:
        """A run begins with who answers, goes on with tokens, and ends with why; then there is nothing to come back for."""
        places = ask(service)
        run = places["run"]
        assert places == {"run": run, "events": f"/runs/{run}", "stop": f"/runs/{run}/stop"}

        with service.reader(places["events"]) as reader:
            events = reader.read_to_end()

        assert [event.event for event in events] == ["started", *([None] * 10), "done"]
        assert data(events)[0] == {"run": run, "provider": "echo", "model": "echo"}
        assert tokens(events) == WORDS
        usage = {"input_tokens": 10, "output_tokens": 10}
        assert data(events)[-1] == {"reason": "finished", "finish_reason": "stop", "usage": usage}
        with service.reader(places["events"], last_event_id=events[-1].id) as reader:
            assert reader.status == 204

    def test_resume(self, service: Server) -> None:
        """Whoever loses the connection in the middle gets the rest, everything once; the answer went on meanwhile."""
        places = ask(service)
        with service.reader(places["events"]) as reader:
            first = reader.read(5)
        with service.reader(places["events"], last_event_id=first[-1].id) as reader:
            rest = reader.read_to_end()

        assert tokens(first + rest) == WORDS
        ids = [event.id for event in first + rest]
        assert len(set(ids)) == len(ids)
        assert rest[-1].event == "done"

    def test_reload(self, service: Server) -> None:
        """A page that is loaded again is shown the answer from its beginning, also when it is complete."""
        places = ask(service)
        with service.reader(places["events"]) as reader:
            reader.read(3)
        with service.reader(places["events"]) as reader:
            assert tokens(reader.read_to_end()) == WORDS
        with service.reader(f"/events?topic=run/{places['run']}") as reader:
            assert tokens(reader.read_to_end()) == WORDS

    def test_stop_from_another_connection(self, service: Server) -> None:
        """Whoever knows the run can end it, for all who listen; a second time there is nothing left to end."""
        places = ask(service, TEXT * 1000)
        with service.reader(places["events"]) as reader, service.reader(places["events"]) as other:
            reader.read(2)
            assert service.request("POST", places["stop"]).json() == {"stopped": True}
            ends = [each.read_to_end()[-1] for each in (reader, other)]

        assert [(end.event, json.loads(end.data or "")) for end in ends] == [("done", {"reason": "stopped"})] * 2
        assert service.request("POST", places["stop"]).json() == {"stopped": False}

    def test_the_stream_itself(self, service: Server) -> None:
        """Who prefers an event stream gets it as the answer to the question, and where to come back."""
        headers = {**JSON, "Accept": "text/event-stream"}
        answer = service.request("POST", "/generate", json.dumps({"prompt": "a b"}).encode(), headers)
        events = EventParser().feed(answer.body)

        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["content-location"] == f"/runs/{data(events)[0]['run']}"
        assert tokens(events) == ["a", " b"]
        assert events[-1].event == "done"

    def test_event_source(self, service: Server) -> None:
        """An EventSource asks with a GET, and comes back with its id to the same answer, never to a new one."""
        path = f"/generate?prompt={quote(TEXT)}&provider=echo&max_tokens=8"
        with service.reader(path) as reader:
            first = reader.read(4)
            run = data(first)[0]["run"]
            assert reader.headers["content-location"] == f"/runs/{run}"
        with service.reader(path, last_event_id=first[-1].id) as reader:
            assert reader.headers["content-location"] == f"/runs/{run}"
            rest = reader.read_to_end()
        with service.reader(path, last_event_id=rest[-1].id) as reader:
            assert reader.status == 204

        assert tokens(first + rest) == WORDS[:8]
        assert data(rest)[-1]["finish_reason"] == "length"

    def test_any_script(self, service: Server) -> None:
        """A prompt in any script comes back in it."""
        with service.reader("/generate?prompt=" + quote("你好 नमस्ते")) as reader:
            assert tokens(reader.read_to_end()) == ["你", "好", " नमस्ते"]

    def test_head_starts_nothing(self, service: Server) -> None:
        """A HEAD request has the head of the stream, and asks nobody."""
        before = metric(service, "sse_producers_started_total")
        answer = service.request("HEAD", "/generate?prompt=a", headers={"Accept": "text/event-stream"})

        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert metric(service, "sse_producers_started_total") == before


def metric(service: Server, name: str) -> float:
    """A metric, summed over its labels."""
    lines = service.request("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))


class TestProviders:
    """A service that asks a provider's server."""

    def test_a_model_answers(self, service: Server, upstream: Vendor) -> None:
        """Tokens, the reason and the usage of a provider are those of the run."""
        upstream.answers[:] = [chunks(*openai_answer("Be", "cause", finish="length", usage=(12, 34)))]
        places = ask(service, "Why?", provider="openai", system="Be brief.", max_tokens=2)
        with service.reader(places["events"]) as reader:
            events = reader.read_to_end()

        assert data(events) == [
            {"run": places["run"], "provider": "openai", "model": "m-1"},
            {"token": "Be"},
            {"token": "cause"},
            {"reason": "finished", "finish_reason": "length", "usage": {"input_tokens": 12, "output_tokens": 34}},
        ]
        assert upstream.requests[-1].body["messages"][0] == {"role": "system", "content": "Be brief."}

    def test_a_failure_ends_the_run(self, service: Server, upstream: Vendor) -> None:
        """A provider's failure is the last event, named `failed`, with what may be shown and no key in it."""
        upstream.answers[:] = [refused("401 Unauthorized", {"error": {"message": "Incorrect API key: sk-1"}})]
        places = ask(service, provider="openai")
        with service.reader(places["events"]) as reader:
            events = reader.read_to_end()

        assert [event.event for event in events] == ["started", "failed"]
        assert data(events)[1] == {
            "reason": "credentials",
            "message": "The provider refused the credentials of this server.",
            "status": 401,
        }
        assert "sk-1" not in "".join(service.log)
        with service.reader(places["events"], last_event_id=events[-1].id) as reader:
            assert reader.status == 204

    def test_stop_reaches_a_provider_that_stalls(self, service: Server, upstream: Vendor) -> None:
        """A generation that is blocked in a read of its provider ends at once, and its connection is closed."""
        upstream.left.clear()
        upstream.answers[:] = [upstream.stall(completion({"content": "Becau"}))]
        places = ask(service, provider="openai")
        with service.reader(places["events"]) as reader:
            assert tokens(reader.read(2)) == ["Becau"]
            assert not upstream.left.is_set()
            assert service.request("POST", places["stop"]).json() == {"stopped": True}
            assert data(reader.read_to_end()) == [{"reason": "stopped"}]
        assert upstream.left.wait(WAIT)

    def test_an_answer_that_nobody_wants(self, upstream: Vendor) -> None:
        """When all who listened are gone for a while, the provider is not paid for more."""
        upstream.left.clear()
        upstream.answers[:] = [upstream.stall(completion({"content": "Becau"}))]
        options = {"openai_model": "m-1", "openai_base_url": f"{upstream.url}/v1", "llm_abandon_after": 0.1}
        with running_service(**options) as service:
            places = ask(service, provider="openai")
            with service.reader(places["events"]) as reader:
                reader.read(2)
            assert upstream.left.wait(WAIT)
            with service.reader(places["events"]) as reader:
                assert data(reader.read_to_end())[-1]["reason"] == "abandoned"


class TestProblems:
    """What is refused before anything is started."""

    @pytest.fixture
    def client(self, hub: Hub) -> TestClient:
        """The application, called without a server."""
        settings = Settings(
            max_prompt_bytes=100, max_body_bytes=1000, max_tokens=50, cors_origins=("https://a.example",)
        )
        return TestClient(app_of(hub, settings))

    @pytest.fixture(autouse=True)
    def nothing_is_started(self, hub: Hub) -> Iterator[None]:
        """After a request that is refused there was no run."""
        yield
        assert hub.stats()["producers_started"] == 0

    def check(self, result: Result, status: int, slug: str | None, **members: Any) -> None:
        assert result.headers["content-type"] == "application/problem+json"
        assert (result.status_code, result.json["type"]) == (
            status,
            "about:blank" if slug is None else f"urn:sse-kit:problem:{slug}",
        )
        assert {name: result.json.get(name) for name in members} == members

    @pytest.mark.parametrize(
        ("body", "status", "slug", "members"),
        [
            ({"prompt": "a", "promt": "b"}, 400, "invalid-generation", {"field": "promt"}),
            ({"prompt": 7}, 400, "invalid-generation", {"field": "prompt"}),
            ({"prompt": " "}, 400, "invalid-generation", {"field": "prompt"}),
            ({"prompt": "a" * 101}, 413, "too-large", {"limit": "max_prompt_bytes", "value": 100}),
            ({"prompt": "a" * 2000}, 413, "too-large", {"limit": "max_body_bytes", "value": 1000}),
            ({"prompt": "a", "max_tokens": 51}, 400, "invalid-generation", {"limit": "max_tokens", "value": 50}),
            ({"prompt": "a", "provider": "openai"}, 404, "unknown-provider", {"field": "provider"}),
            ({"prompt": "a", "model": "gpt-x"}, 400, "unknown-model", {"field": "model"}),
        ],
    )
    def test_a_body(self, client: TestClient, body: Any, status: int, slug: str, members: dict[str, Any]) -> None:
        """A body that is wrong is a problem that says where; a bound says which and how much."""
        self.check(client.simulate_post("/generate", json=body), status, slug, **members)

    def test_media_types(self, client: TestClient) -> None:
        """The body is JSON, and so is the answer, or a stream."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self.check(client.simulate_post("/generate", body="prompt=a", headers=form), 415, None)
        self.check(client.simulate_post("/generate", json={"prompt": "a"}, headers={"Accept": "text/html"}), 406, None)
        self.check(client.simulate_get("/generate?prompt=a", headers={"Accept": "application/json"}), 406, None)

    @pytest.mark.parametrize("query", ["", "prompt=", "prompt=a&topic=b", "prompt=a&max_tokens=b", "prompt=a&prompt=b"])
    def test_a_query(self, client: TestClient, query: str) -> None:
        """A query that is wrong is a problem too, before there is a stream."""
        self.check(client.simulate_get(f"/generate?{query}"), 400, "invalid-generation")

    @pytest.mark.parametrize("origin", [None, "https://b.example", "null"])
    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_a_page_of_another_origin(self, client: TestClient, site: str, origin: str | None) -> None:
        """A foreign page's image or EventSource makes us ask nobody."""
        headers = {"Sec-Fetch-Site": site, **({"Origin": origin} if origin else {})}
        self.check(client.simulate_get("/generate?prompt=a", headers=headers), 403, "foreign-origin")

    def test_no_room_for_a_run(self) -> None:
        """A server with as many runs as it may have says so, and when to try again."""
        with Hub(max_producers=1) as hub:
            stay = threading.Event()
            hub.produce(lambda: iter(stay.wait, True), abort=stay.set)
            result = TestClient(app_of(hub)).simulate_post("/generate", json={"prompt": "a"})

        self.check(result, 503, "limit-reached", limit="max_producers", value=1)
        assert int(result.headers["Retry-After"]) > 0


def test_a_page_of_an_origin_that_may(hub: Hub) -> None:
    """Pages of the origins in the settings may ask, and so may our own and whoever types the address."""
    client = TestClient(app_of(hub, Settings(cors_origins=("https://a.example",))))
    asking = [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://a.example"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {},
    ]
    statuses = [
        client.simulate_head("/generate?prompt=a", headers=headers, extras=ONE_PROCESS).status_code
        for headers in asking
    ]

    assert statuses == [200] * 4


def test_who_asks_is_known_before_anything_is_started(hub: Hub) -> None:
    """With tokens in the settings nobody without one makes a provider work."""
    client = TestClient(app_of(hub, Settings(tokens={"ann": "a" * 32})))
    results = [
        client.simulate_post("/generate", json={"prompt": "a"}),
        client.simulate_get("/generate?prompt=a"),
        client.simulate_get("/runs/x"),
        client.simulate_post("/runs/x/stop"),
    ]

    assert [result.status_code for result in results] == [401] * 4
    assert hub.stats()["producers_started"] == 0


def test_no_room_for_the_stream(hub: Hub) -> None:
    """An EventSource that finds no room is told to come back, however often, and no run is begun for it meanwhile."""
    with closing(hub.subscribe("a")) as stream:
        next(stream)
        hub.publish("a", "is open now")
        next(stream)
        client = TestClient(app_of(hub, Settings(max_streams=1)))
        result = client.simulate_get("/generate?prompt=a", extras=ONE_PROCESS)

    assert (result.status_code, result.content.startswith(b"retry: ")) == (200, True)
    assert hub.stats()["producers_started"] == 0


class UnreachableHub(Hub):
    """A hub that is away when a run that has begun should be listened to."""

    def _subscribe(self, *arguments: Any, **options: Any) -> EventStream:
        raise BackplaneError(1.0, "gone")


def test_a_run_that_nobody_can_hear_of() -> None:
    """Where the run has begun and its stream cannot, its provider is not asked."""
    with vendor(chunks(*openai_answer("a"))) as upstream, UnreachableHub() as hub:
        settings = Settings(openai_model="m", openai_base_url=f"{upstream.url}/v1", llm_provider="openai")
        result = TestClient(app_of(hub, settings)).simulate_get("/generate?prompt=a", extras=ONE_PROCESS)
        wait_until(lambda: hub.stats()["producers_finished"] == 1, "the run has ended")

        assert (result.status_code, result.content.startswith(b"retry: ")) == (200, True)
        assert upstream.requests == []


def test_several_processes(tmp_path: Path) -> None:
    """Over two workers an answer is begun in one, listened to in any, and stopped from any."""
    with (
        redis_server(tmp_path) as redis,
        running_service(workers=2, backplane=redis.url, echo_interval=0.02) as service,
    ):
        for _ in range(4):
            places = ask(service)
            with service.reader(places["events"]) as reader:
                assert tokens(reader.read_to_end()) == WORDS
        places = ask(service, TEXT * 1000)
        with service.reader(places["events"]) as reader:
            reader.read(2)
            assert service.request("POST", places["stop"]).json() == {"stopped": True}
            assert data(reader.read_to_end())[-1] == {"reason": "stopped"}
