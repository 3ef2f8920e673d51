from __future__ import annotations

import json
from typing import Any

import pytest

from sse_kit.llm.requests import GenerationRequest, from_json, from_query
from sse_kit.problems import Problem


def parse(value: object) -> GenerationRequest:
    return from_json(value if isinstance(value, bytes) else json.dumps(value).encode(), max_prompt_bytes=20)


def test_all_members() -> None:
    """A body may say everything, and a query the same, as text."""
    members: dict[str, Any] = {
        "prompt": "Why?",
        "provider": "openai",
        "model": "m",
        "system": "Be brief.",
        "max_tokens": 7,
        "temperature": 0.5,
    }
    query = {name: str(value) for name, value in members.items()}

    assert parse(members) == GenerationRequest(**members)
    assert from_query({**query, "last_event_id": "1-0"}, max_prompt_bytes=20) == GenerationRequest(**members)


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        (b"", 400, "invalid-json", None),
        (b"{", 400, "invalid-json", None),
        (b'{"prompt": "\xff"}', 400, "invalid-json", None),
        (b'{"prompt":' + b"[" * 100_000, 400, "invalid-generation", "prompt"),
        ([], 400, "invalid-generation", None),
        ({}, 400, "invalid-generation", "prompt"),
        ({"prompt": "a", "promt": "b"}, 400, "invalid-generation", "promt"),
        ({"prompt": "a", "stream": True}, 400, "invalid-generation", "stream"),
        ({"prompt": None}, 400, "invalid-generation", "prompt"),
        ({"prompt": ["a"]}, 400, "invalid-generation", "prompt"),
        ({"prompt": ""}, 400, "invalid-generation", "prompt"),
        ({"prompt": " \n\t"}, 400, "invalid-generation", "prompt"),
        (b'{"prompt": "\\ud800"}', 400, "invalid-json", None),
        ({"prompt": "a", "max_tokens": 0}, 400, "invalid-generation", "max_tokens"),
        ({"prompt": "a", "max_tokens": "7"}, 400, "invalid-generation", "max_tokens"),
        ({"prompt": "a", "max_tokens": 1.5}, 400, "invalid-generation", "max_tokens"),
        ({"prompt": "a", "temperature": -0.1}, 400, "invalid-generation", "temperature"),
        ({"prompt": "a", "temperature": 2.1}, 400, "invalid-generation", "temperature"),
        ({"prompt": "a", "temperature": True}, 400, "invalid-generation", "temperature"),
        ({"prompt": "a", "model": 5}, 400, "invalid-generation", "model"),
        ({"prompt": "ä" * 11}, 413, "too-large", "prompt"),
        ({"prompt": "a", "system": "b" * 21}, 413, "too-large", "system"),
    ],
)
def test_what_is_no_request(body: object, status: int, slug: str, field: str | None) -> None:
    """Whatever is wrong has its problem, which names the member at fault."""
    with pytest.raises(Problem) as raised:
        parse(body)

    problem = raised.value
    assert (problem.status_code, problem.type, problem.members.get("field")) == (
        status,
        f"urn:sse-kit:problem:{slug}",
        field,
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "a", "topic": "b"}, "topic"),
        ({"prompt": "a", "max_tokens": "b"}, "max_tokens"),
        ({"prompt": "a", "temperature": "nan"}, "temperature"),
        ({"prompt": "a", "temperature": "inf"}, "temperature"),
        ({"prompt": "\udcff"}, "prompt"),
    ],
)
def test_what_is_no_query(query: Any, field: str) -> None:
    """A query is checked as a body is."""
    with pytest.raises(Problem) as raised:
        from_query(query, max_prompt_bytes=20)

    assert (raised.value.status_code, raised.value.members["field"]) == (400, field)


def test_the_bound_counts_bytes() -> None:
    """A prompt has exactly so many bytes as the setting says, in UTF-8."""
    assert parse({"prompt": "ä" * 10}).prompt == "ä" * 10
