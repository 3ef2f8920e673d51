from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import falcon
import pytest
from falcon.testing import Result, TestClient

from sse_core import BackplaneError, FailedError, Hub
from sse_kit.namespaces import Namespaces
from sse_kit.runs import accept_run
from sse_kit.settings import Settings
from tests.application import app_of
from tests.servers import Server

# Falcon's test client says that there are several, for which a hub in memory is wrong.
ONE_PROCESS = {"wsgi.multiprocess": False}
SSE = {"Accept": "text/event-stream"}

Get = Callable[..., Result]


@pytest.fixture
def get(client: TestClient) -> Get:
    """Ask for a stream without a server, which ends with its run."""

    def get(path: str, **headers: str) -> Result:
        return client.simulate_get(path, headers={**SSE, **headers}, extras=ONE_PROCESS)

    return get


@pytest.fixture
def ended(hub: Hub) -> str:
    """A run that has ended: its name."""
    producer = hub.produce(lambda: iter(["a", "b"]))
    assert producer.wait(10)
    return producer.run


def last_id(result: Result) -> str:
    return [line for line in result.text.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")


class TestStream:
    """``GET /runs/{run}``."""

    def test_from_its_beginning(self, get: Get, ended: str) -> None:
        """Who brings no id gets all of a run, its end too."""
        result = get(f"/runs/{ended}")

        assert (result.status_code, result.headers["content-type"]) == (200, "text/event-stream")
        assert [line for line in result.text.splitlines() if line.startswith(("event", "data"))] == [
            "data: a",
            "data: b",
            "event: done",
            'data: {"reason":"finished"}',
        ]

    @pytest.mark.parametrize("how", ["header", "query"])
    def test_over(self, get: Get, ended: str, how: str) -> None:
        """Who brings the last id is told that nothing is to come: 204 ends an EventSource."""
        seen = last_id(get(f"/runs/{ended}"))
        result = (
            get(f"/runs/{ended}", **{"Last-Event-ID": seen})
            if how == "header"
            else get(f"/runs/{ended}?last_event_id={seen}")
        )

        assert (result.status_code, result.content) == (204, b"")

    @pytest.mark.parametrize("run", ["x", "A-b_9", "a" * 64, "a" * 65, "a.b", "%C3%A4"])
    @pytest.mark.parametrize("query", ["", "?last_event_id=", "?last_event_id=0-0", "?last_event_id=nonsense"])
    def test_unknown(self, get: Get, hub: Hub, run: str, query: str) -> None:
        """A run that never was is a 404, whatever is asked after that is no id of an event; nothing is kept of it."""
        result = get(f"/runs/{run}{query}")

        assert (result.status_code, result.json["type"]) == (404, "urn:sse-kit:problem:unknown-run")
        assert hub.topics() == {}

    def test_what_an_earlier_process_has_begun(self, get: Get) -> None:
        """Who comes back to a run that went with its process is told so by a last event, and not by an error."""
        result = get("/runs/lost", **{"Last-Event-ID": "1-0"})

        assert result.status_code == 200
        assert "event: failed" in result.text
        assert '"reason":"interrupted"' in result.text

    def test_head(self, client: TestClient, ended: str) -> None:
        """HEAD is answered as GET is."""
        known = client.simulate_head(f"/runs/{ended}", headers=SSE, extras=ONE_PROCESS)
        unknown = client.simulate_head("/runs/x", headers=SSE, extras=ONE_PROCESS)

        assert [known.status_code, unknown.status_code] == [200, 404]

    def test_accept(self, client: TestClient, ended: str) -> None:
        """It is a stream and nothing else."""
        assert client.simulate_get(f"/runs/{ended}", headers={"Accept": "application/json"}).status_code == 406

    def test_failed(self, hub: Hub, get: Get) -> None:
        """A run that fails ends with what its producer says about it."""

        def fail() -> Iterator[str]:
            yield "a"
            raise FailedError("The printer is on fire.", reason="fire", floor=3)

        producer = hub.produce(fail)
        assert producer.wait(10)

        assert (
            'data: {"reason":"fire","message":"The printer is on fire.","floor":3}' in get(f"/runs/{producer.run}").text
        )


class AwayHub(Hub):
    """A hub whose backplane is away."""

    def production(self, topic: str) -> None:
        raise BackplaneError(2.0, "redis://secret is away")

    def stop(self, topic: str) -> bool:
        raise BackplaneError(2.0, "redis://secret is away")


class TestStop:
    """``POST /runs/{run}/stop``."""

    def test_stop(self, client: TestClient, hub: Hub) -> None:
        """A run that is under way is woken and ended; one that has ended is left alone."""
        woken = threading.Event()

        def wait() -> Iterator[str]:
            woken.wait()
            yield "never"

        producer = hub.produce(wait, abort=woken.set)
        first = client.simulate_post(f"/runs/{producer.run}/stop")
        second = client.simulate_post(f"/runs/{producer.run}/stop")

        assert (first.status_code, first.json, first.headers["cache-control"]) == (200, {"stopped": True}, "no-store")
        assert (second.status_code, second.json) == (200, {"stopped": False})
        assert woken.wait(10)

    @pytest.mark.parametrize("run", ["x", "a.b", "a" * 65])
    def test_unknown(self, client: TestClient, run: str) -> None:
        """What never ran cannot be stopped."""
        result = client.simulate_post(f"/runs/{run}/stop")

        assert (result.status_code, result.json["type"]) == (404, "urn:sse-kit:problem:unknown-run")

    def test_the_backplane_is_away(self) -> None:
        """Nobody knows whether it was stopped: ask again, and no address is told."""
        with AwayHub() as hub:
            result = TestClient(app_of(hub)).simulate_post("/runs/x/stop")

        assert (result.status_code, result.json["type"]) == (503, "urn:sse-kit:problem:backplane-away")
        assert result.headers["Retry-After"] == "2"
        assert "secret" not in result.text


def test_a_stream_is_not_ended_by_a_backplane_that_is_away() -> None:
    """Whether the run exists cannot be said now; an error would end the EventSource of one that does."""
    with AwayHub() as hub:
        result = TestClient(app_of(hub)).simulate_head("/runs/x", headers=SSE, extras=ONE_PROCESS)

    assert result.status_code == 200


class TestAccepted:
    """What a resource answers that has started a run."""

    @pytest.fixture
    def client(self, hub: Hub) -> TestClient:
        """An application with one such resource."""
        subscriber = Namespaces(Settings(), {"default": hub}).find("default").subscriber

        class Starter:
            def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
                accept_run(req, resp, hub.produce(lambda: iter(["a"])), subscriber)

        app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
        app.add_route("/start", Starter())
        return TestClient(app)

    @pytest.mark.parametrize(
        "accept", ["*/*", "application/json", "text/event-stream, */*", "text/event-stream;q=0.5, */*"]
    )
    def test_where_it_is(self, client: TestClient, accept: str) -> None:
        """Who takes JSON is told where the run is, at once."""
        result = client.simulate_post("/start", headers={"Accept": accept}, root_path="/sse")
        run = result.json["run"]

        assert (result.status_code, result.headers["location"]) == (202, f"/sse/runs/{run}")
        assert result.json == {"run": run, "events": f"/sse/runs/{run}", "stop": f"/sse/runs/{run}/stop"}

    @pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, application/json;q=0.9"])
    def test_the_stream_itself(self, client: TestClient, accept: str) -> None:
        """Who prefers a stream gets the run's."""
        result = client.simulate_post("/start", headers={"Accept": accept}, extras=ONE_PROCESS)

        assert (result.status_code, result.headers["content-type"]) == (200, "text/event-stream")
        assert result.headers["content-location"].startswith("/runs/")
        assert "data: a" in result.text


def test_real_http(server: Server) -> None:
    """The problem of an unknown run is one over real HTTP too."""
    with server.reader("/runs/x") as reader:
        assert (reader.status, reader.headers["content-type"]) == (404, "application/problem+json")
    answer = server.request("POST", "/runs/x/stop")
    assert json.loads(answer.body)["type"] == "urn:sse-kit:problem:unknown-run"
