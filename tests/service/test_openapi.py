from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
from falcon import App
from falcon.inspect import inspect_routes
from falcon.testing import TestClient

from sse_core import Event, Hub
from sse_core.testing import StreamReader
from sse_kit.app import OPENAPI
from sse_kit.auth import OPEN_ROUTES
from sse_kit.problems import SLUGS
from tests.application import app_of
from tests.servers import Server

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text())


def validate(value: Any, schema: dict[str, Any]) -> None:
    """Check a value by a schema of the document, whose references are relative to the document."""
    jsonschema.Draft202012Validator({**DOCUMENT, **schema}, format_checker=jsonschema.FormatChecker()).validate(value)


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def media_types() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body that the document describes: where it is, its media type, and the description."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media_type, each in resolve(body).get("content", {}).items():
                    yield f"{method} {path} {name}", media_type, each


def examples() -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    for where, media_type, each in media_types():
        if "example" in each:
            yield where, media_type, each["schema"], each["example"]
        for name, example in each.get("examples", {}).items():
            yield f"{where} {name}", media_type, each["schema"], example["value"]


def test_all_routes(hub: Hub) -> None:
    """The document has every route with every method, and no other."""
    app: App[Any, Any] = app_of(hub)
    routes = {
        (re.sub(r"{(\w+):\w+}", r"{\1}", route.path), method.method.lower())
        for route in inspect_routes(app)
        for method in route.methods
        if not method.internal
    }

    assert {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods} == routes


def test_who_may_ask() -> None:
    """The document says of every operation whether it is open to everybody, and else that it may answer 401."""
    opened = {re.sub(r"{(\w+):\w+}", r"{\1}", route) for route in OPEN_ROUTES}
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            assert (operation.get("security") == []) is (path in opened), path
            assert path in opened or "401" in operation["responses"], path


def test_every_reference_leads_somewhere() -> None:
    """Every reference of the document can be followed, and every component is used."""
    text = json.dumps(DOCUMENT)
    used = set(re.findall(r'"#/components/(\w+/\w+)"', text))

    components = DOCUMENT["components"]
    schemes = components["securitySchemes"]
    assert schemes.keys() == {name for allowed in DOCUMENT["security"] for name in allowed}
    defined = {f"{kind}/{name}" for kind, names in components.items() for name in names if names is not schemes}
    # What events of a stream carry has no place in OpenAPI to refer to it from.
    assert defined - used == {
        "schemas/LogLine",
        "schemas/LogTruncated",
        "schemas/LogSkipped",
        "schemas/Gap",
        "schemas/Stats",
        "schemas/Metric",
        "schemas/WatchedValue",
        "schemas/UnsupportedValue",
        "schemas/Progress",
        "schemas/JobDone",
        "schemas/Started",
        "schemas/Token",
        "schemas/Answered",
        "schemas/Failed",
    }
    assert used - defined == set()


def test_schemas_are_schemas() -> None:
    """Every schema is one by JSON Schema 2020-12, which OpenAPI 3.1 uses."""
    schemas = [each["schema"] for _, _, each in media_types()]

    for schema in [*schemas, *DOCUMENT["components"]["schemas"].values()]:
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("where", "media_type", "schema", "example"), [pytest.param(*each, id=each[0]) for each in examples()]
)
def test_examples(where: str, media_type: str, schema: dict[str, Any], example: Any) -> None:
    """Every example is what its schema describes."""
    validate(example, schema)


def test_problem_types(hub: Hub) -> None:
    """The document lists the problem types that the code knows, with their titles."""
    types = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    problems = [example for _, media_type, _, example in examples() if media_type == "application/problem+json"]

    assert types == ["about:blank", *(f"urn:sse-kit:problem:{slug}" for slug in SLUGS)]
    for problem in problems:
        if problem["type"] != "about:blank":
            assert problem["title"] == SLUGS[problem["type"].rpartition(":")[2]]


def test_served_as_it_is(hub: Hub) -> None:
    """The server serves the document, and its version is the package's."""
    result = TestClient(app_of(hub)).simulate_get("/openapi.json")

    assert (result.status_code, result.headers["content-type"]) == (200, "application/json")
    assert result.json == DOCUMENT
    assert DOCUMENT["info"]["version"] == version("sse-kit")


def test_published_examples(hub: Hub) -> None:
    """What the document shows as a request is taken, and answered as it shows."""
    client = TestClient(app_of(hub))
    operation = DOCUMENT["paths"]["/publish"]["post"]
    described = operation["requestBody"]["content"]

    for example in described["application/json"]["examples"].values():
        result = client.simulate_post("/publish", json=example["value"])
        validate(result.json, operation["responses"]["200"]["content"]["application/json"]["schema"])
    body = described["application/x-ndjson"]["example"]
    result = client.simulate_post("/publish", body=body, headers={"Content-Type": "application/x-ndjson"})
    for line in result.text.splitlines():
        validate(json.loads(line), {"$ref": "#/components/schemas/Receipt"})
    assert result.status_code == 200


def test_data_of_events(server: Server) -> None:
    """What streams carry beside published events is as the document's schemas say."""

    def check(reader: StreamReader, schema: str) -> Event:
        (event,) = reader.read()
        validate(json.loads(event.data or ""), {"$ref": f"#/components/schemas/{schema}"})
        return event

    with server.reader("/events?topic=server/stats") as reader:
        assert check(reader, "Stats").event == "stats"
    with server.reader("/events?topic=server/metric") as reader:
        assert check(reader, "Metric").event == "metric"
    with server.reader("/events?topic=a", last_event_id="nonsense") as reader:
        assert check(reader, "Gap").event == "gap"
    job = server.request("POST", "/jobs?name=a", b"abc", {"Content-Type": "application/octet-stream"}).json()
    validate(job, {"$ref": "#/components/schemas/Run"})
    with server.reader(f"/events?topic=run/{job['run']}") as reader:
        names = [check(reader, schema).event for schema in ("Progress", "Progress", "JobDone")]
    assert names == ["progress", "progress", "done"]
    answer = server.request("POST", "/generate", b'{"prompt": "a"}', {"Content-Type": "application/json"}).json()
    validate(answer, {"$ref": "#/components/schemas/Run"})
    with server.reader(answer["events"]) as reader:
        names = [check(reader, schema).event for schema in ("Started", "Token", "Answered")]
    assert names == ["started", None, "done"]
