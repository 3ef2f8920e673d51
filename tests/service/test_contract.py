"""The service keeps to its own OpenAPI document, whatever it is sent: schemathesis makes up the requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from sse_core import Hub
from sse_kit.settings import Settings
from tests.application import app_of

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def cut_short(app: WSGI) -> WSGI:
    """The application, whose streams end after their first bytes: a stream is what never ends by itself."""

    def cutting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        types: list[str] = []

        def noting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            types[:] = [value for name, value in headers if name.lower() == "content-type"]
            return start_response(status, headers, *rest)

        body = app(environ, noting)
        return first_of(body) if types and types[0].startswith("text/event-stream") else body

    return cutting


def first_of(body: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield next(iter(body), b"")
    finally:
        getattr(body, "close", lambda: None)()


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """What schemathesis makes up for the body of many events: text mostly, since the document says no more."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def load() -> Any:
    application = app_of(
        Hub(),
        Settings(max_demo_interval=1, demo_counter_interval=0.1, echo_interval=0.001, max_jobs=64, min_free_bytes=0),
    )
    return schemathesis.openapi.from_wsgi("/openapi.json", cut_short(application))


SCHEMA = load()
#: What the document cannot say: that a topic's name is no longer than so many bytes, or that a model is configured.
UNSAYABLE = [negative_data_rejection, positive_data_acceptance]


def check(case: Case) -> None:
    answer = case.call()
    streams = answer.headers.get("content-type", [""])[0].startswith("text/event-stream")
    # The document describes a stream as the text that it is; schemathesis would hold each event to that.
    case.validate_response(answer, excluded_checks=[*UNSAYABLE, *([response_schema_conformance] if streams else [])])


@SCHEMA.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case: Case) -> None:
    """No request makes the server fail, and each answer has a status, a type and a body that the document has."""
    check(case)


@pytest.mark.soak
@SCHEMA.parametrize()
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented_to_many_requests(case: Case) -> None:
    """The same for many requests, other ones each time."""
    check(case)
