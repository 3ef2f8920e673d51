from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from sse_kit.llm import Prompt
from sse_kit.llm.providers import Providers
from sse_kit.llm.requests import GenerationRequest
from sse_kit.problems import Problem
from sse_kit.settings import Settings

CONFIGURED = {
    "openai_model": "gpt-x",
    "openai_api_key": "sk-1",
    "anthropic_model": "claude-x",
    "anthropic_api_key": "sk-2",
}


def providers(**settings: Any) -> Providers:
    return Providers(Settings(**settings))


def problem(found: Providers, **members: Any) -> tuple[int, str, str]:
    request = GenerationRequest("Why?", **members)
    with pytest.raises(Problem) as raised:
        found.prompt(found.find(request.provider), request)
    return raised.value.status_code, raised.value.members["field"], str(raised.value.description)


def test_echo_is_always_there() -> None:
    """Without any setting there is one provider, which needs nothing, and it is the default."""
    assert providers().find(None).name == "echo"
    assert problem(providers(), provider="openai") == (
        404,
        "provider",
        "There is no provider 'openai' here; there are: echo.",
    )


def test_providers_of_the_settings() -> None:
    """A provider with a model is there, under its name, with that model; one of them is the default."""
    found = providers(**CONFIGURED, llm_provider="anthropic")

    assert [(found.find(name).name, found.find(name).model) for name in ("echo", "openai", "anthropic")] == [
        ("echo", "echo"),
        ("openai", "gpt-x"),
        ("anthropic", "claude-x"),
    ]
    assert found.find(None).name == "anthropic"
    assert problem(found, provider="gemini")[2] == (
        "There is no provider 'gemini' here; there are: echo, openai, anthropic."
    )


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider whose extra was not installed says so, and what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert problem(providers(**CONFIGURED), provider="openai") == (
        503,
        "provider",
        "The library of the provider 'openai' is not installed on this server: sse-kit[openai].",
    )
    assert providers().find(None).name == "echo"


def test_defaults_of_a_prompt() -> None:
    """What a request leaves out is the provider's and the settings'."""
    found = providers(**CONFIGURED, max_tokens=50)
    openai = found.find("openai")

    assert found.prompt(openai, GenerationRequest("Why?")) == Prompt("Why?", "gpt-x", 50)
    asked = GenerationRequest("Why?", model="gpt-y", system="s", max_tokens=7, temperature=0.5)
    assert found.prompt(openai, asked) == Prompt("Why?", "gpt-y", 7, system="s", temperature=0.5)


def test_models_that_may_be_used() -> None:
    """With a list of models a request may name those, and the provider's own."""
    found = providers(**CONFIGURED, llm_models=["gpt-y"])

    assert found.prompt(found.find("openai"), GenerationRequest("Why?", model="gpt-y")).model == "gpt-y"
    assert found.prompt(found.find("openai"), GenerationRequest("Why?", model="gpt-x")).model == "gpt-x"
    assert problem(found, provider="openai", model="gpt-z") == (
        400,
        "model",
        "The provider 'openai' has no model 'gpt-z' here; there are: gpt-x, gpt-y.",
    )
    assert problem(providers(**CONFIGURED), provider="openai", model="")[:2] == (400, "model")


def test_echo_is_no_model() -> None:
    """The echo answers under its own name only."""
    assert problem(providers(), model="gpt-x") == (
        400,
        "model",
        "The provider 'echo' has no model 'gpt-x' here; there are: echo.",
    )


def test_bounds_of_a_prompt() -> None:
    """More tokens than the settings allow are refused and not cut; Anthropic takes no temperature any more."""
    found = providers(**CONFIGURED, max_tokens=50)

    assert problem(found, max_tokens=51) == (400, "max_tokens", "An answer has at most 50 tokens here, not 51.")
    assert problem(found, provider="anthropic", temperature=1.0) == (
        400,
        "temperature",
        "The provider 'anthropic' takes no temperature.",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"openai_model": "m"}, "openai_model needs openai_api_key"),
        ({"anthropic_model": "m"}, "anthropic_model needs anthropic_api_key"),
        ({"llm_provider": "openai"}, "llm_provider openai needs openai_model"),
        ({"llm_provider": "gemini"}, "llm_provider"),
        ({"openai_base_url": "localhost:11434"}, "openai_base_url"),
        ({"openai_base_url": "http://user:secret@localhost/v1"}, "without a user"),
        ({"anthropic_base_url": "https://a.example/?key=1"}, "a query"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    """A provider that could never answer is refused when the server starts; keys are not quoted."""
    with pytest.raises(ValueError, match=message) as raised:
        Settings(**settings)
    assert "secret" not in str(raised.value)


def test_a_server_of_ones_own_needs_no_key() -> None:
    """Any other base URL may be one that asks for none."""
    found = providers(openai_model="llama", openai_base_url="http://127.0.0.1:11434/v1")

    assert found.find("openai").model == "llama"
