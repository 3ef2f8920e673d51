from __future__ import annotations

import pytest

from sse_core import FailedError
from sse_kit.llm import Finish, Prompt
from sse_kit.llm.anthropic import AnthropicProvider
from sse_kit.llm.upstream import Bounds
from tests.service.llm.vendor import (
    WAIT,
    Received,
    anthropic_answer,
    chunks,
    message_end,
    message_event,
    message_start,
    read,
    text_delta,
    vendor,
)

BOUNDS = Bounds(connect_timeout=WAIT, timeout=WAIT, max_seconds=WAIT, max_answer_bytes=1 << 20, retries=0)


def ask(*answer: bytes, prompt: Prompt | None = None) -> tuple[list[str], object, Received]:
    """The tokens, the end, and what the server was asked."""
    with vendor(chunks(*answer)) as server:
        provider = AnthropicProvider(base_url=server.url, api_key="sk-1", model="m-1", bounds=BOUNDS)
        tokens, end = read(provider.generate(prompt or Prompt("Why?", "m-1", 100)))
        return tokens, end, server.requests[0]


def test_request() -> None:
    """A prompt is a message, streamed; the bound is always sent, since the API insists on one."""
    _, _, request = ask(*anthropic_answer("a"), prompt=Prompt("Why?", "m-2", 100, system="Be brief."))

    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.body == {
        "model": "m-2",
        "messages": [{"role": "user", "content": "Why?"}],
        "system": "Be brief.",
        "max_tokens": 100,
        "stream": True,
    }


def test_tokens_usage_and_reason() -> None:
    """The end tells why and what was used; pings, and blocks that are no text, are no tokens."""
    tokens, end, _ = ask(
        *message_start(12),
        message_event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm."}),
        text_delta("Be"),
        message_event("ping"),
        text_delta(""),
        text_delta("cause"),
        *message_end("max_tokens", 34),
    )

    assert (tokens, end) == (["Be", "cause"], Finish("max_tokens", 12, 34))


@pytest.mark.parametrize(
    ("kind", "reason", "status"),
    [
        ("overloaded_error", "overloaded", 529),
        ("rate_limit_error", "rate-limited", 429),
        ("authentication_error", "credentials", 401),
        ("timeout_error", "upstream", 504),
        ("api_error", "upstream", None),
        ("one_that_is_new", "upstream", None),
    ],
)
def test_errors_in_the_middle(kind: str, reason: str, status: int | None) -> None:
    """An event `error` ends the answer with the class of its type: the response's own status was 200 long ago."""
    error = message_event("error", error={"type": kind, "message": "Overloaded"})
    tokens, end, _ = ask(*message_start(), text_delta("Be"), error)

    assert tokens == ["Be"]
    assert isinstance(end, FailedError)
    assert (end.reason, end.members.get("status")) == (reason, status)


def test_a_message_without_its_end() -> None:
    """A stream that ends between two events is no whole answer."""
    tokens, end, _ = ask(*message_start(), text_delta("Be"))

    assert tokens == ["Be"]
    assert isinstance(end, FailedError)
    assert end.message == "The provider's answer broke off before its end."
