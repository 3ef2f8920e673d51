from __future__ import annotations

from typing import Any

import pytest

from sse_core import FailedError
from sse_kit.llm import Finish, Prompt
from sse_kit.llm.openai import OpenAIProvider
from sse_kit.llm.upstream import Bounds
from tests.service.llm.vendor import WAIT, Received, chunks, completion, openai_answer, read, vendor

BOUNDS = Bounds(connect_timeout=WAIT, timeout=WAIT, max_seconds=WAIT, max_answer_bytes=1 << 20, retries=0)


def ask(*answer: bytes, prompt: Prompt | None = None, **options: Any) -> tuple[list[str], object, Received]:
    """The tokens, the end, and what the server was asked."""
    with vendor(chunks(*answer)) as server:
        options = {"api_key": "sk-1", "bounds": BOUNDS, "model": "m-1", **options}
        provider = OpenAIProvider(base_url=f"{server.url}/v1", **options)
        tokens, end = read(provider.generate(prompt or Prompt("Why?", "m-1", 100)))
        return tokens, end, server.requests[0]


def test_request() -> None:
    """A prompt is a chat completion, streamed, with its usage."""
    _, _, request = ask(*openai_answer("a"))

    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.body == {
        "model": "m-1",
        "messages": [{"role": "user", "content": "Why?"}],
        "max_tokens": 100,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_options_of_a_prompt() -> None:
    """The system prompt comes first, and a temperature is sent if there is one: 0 is one."""
    _, _, request = ask(*openai_answer("a"), prompt=Prompt("Why?", "m-2", 5, system="Be brief.", temperature=0.0))

    assert request.body["model"] == "m-2"
    assert request.body["temperature"] == 0.0
    assert request.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]


def test_a_server_without_a_key() -> None:
    """A server of one's own that asks for no key gets none of ours, whatever the environment has."""
    _, _, request = ask(*openai_answer("a"), api_key=None)

    assert request.headers["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    ("base_url", "limit", "name"),
    [
        ("https://api.openai.com/v1", None, "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", None, "max_tokens"),
        ("http://127.0.0.1:11434/v1", "max_completion_tokens", "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_tokens", "max_tokens"),
    ],
)
def test_the_name_of_the_limit(base_url: str, limit: Any, name: str) -> None:
    """OpenAI takes the bound by its new name, most others only by the old one, and the setting decides in doubt."""
    provider = OpenAIProvider(base_url=base_url, api_key="k", model="m-1", bounds=BOUNDS, token_limit=limit)

    assert provider.request(Prompt("Why?", "m-1", 7))[name] == 7


def test_tokens_usage_and_reason() -> None:
    """The end tells why and what was used, in the provider's words and numbers."""
    tokens, end, _ = ask(*openai_answer("Be", "cause", finish="length", usage=(12, 34)))

    assert (tokens, end) == (["Be", "cause"], Finish("length", 12, 34))


def test_no_usage() -> None:
    """A server that tells no usage has used an unknown number of tokens, not none."""
    _, end, _ = ask(*openai_answer("a", usage=None))

    assert isinstance(end, Finish)
    assert end.members() == {"finish_reason": "stop", "usage": None}


def test_a_refusal_is_an_answer() -> None:
    """A model that declines says so to the one who asked."""
    tokens, end, _ = ask(completion({"refusal": "I will not."}), completion({}, finish="stop"))

    assert (tokens, end) == (["I will not."], Finish("stop"))


def test_members_that_are_left_out() -> None:
    """Not every server sends every member: what is there is read."""
    tokens, end, _ = ask(
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
        b'data: {"choices": [{"finish_reason": "stop"}]}\n\n',
        b'data: {"choices": null, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n',
    )

    assert (tokens, end) == (["a"], Finish("stop", 1, 2))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (b'{"message": "m", "type": "server_error", "code": null}', "upstream"),
        (b'{"message": "m", "type": "BadRequestError", "code": 400}', "refused"),
        (b'{"message": "m", "type": "x", "code": "503"}', "overloaded"),
        (b'{"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}', "rate-limited"),
        (b'{"message": "m", "type": "rate_limit_error"}', "rate-limited"),
        (b'"m"', "upstream"),
    ],
)
def test_errors_in_the_middle(error: bytes, reason: str) -> None:
    """An error in the stream ends the answer with its class, after the tokens that came before."""
    tokens, end, _ = ask(completion({"content": "Be"}), b'data: {"error": ' + error + b"}\n\n")

    assert tokens == ["Be"]
    assert isinstance(end, FailedError)
    assert end.reason == reason
