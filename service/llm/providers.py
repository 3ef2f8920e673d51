"""The providers that the settings describe, and what a request may ask of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..problems import Problem
from ..settings import Settings
from . import Prompt, Provider
from .echo import EchoProvider
from .requests import GenerationRequest

if TYPE_CHECKING:
    # What it imports comes with the vendors' libraries.
    from .upstream import Bounds


class Providers:
    """All providers of one process. Thread-safe; a vendor's library is imported with the first request that needs it.

    `EchoProvider` is always one of them; another one is if its model is in the settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._default = settings.llm_provider
        self._max_tokens = settings.max_tokens
        self._models = settings.llm_models
        self._made: dict[str, Provider] = {}
        # Nothing is lost if two threads make the same one: providers have no state.
        self._make: dict[str, Callable[[], Provider]] = {"echo": lambda: EchoProvider(settings.echo_interval)}
        if settings.openai_model is not None:
            self._make["openai"] = lambda: _openai(settings)
        if settings.anthropic_model is not None:
            self._make["anthropic"] = lambda: _anthropic(settings)

    def find(self, name: str | None) -> Provider:
        """Return a provider by its name, None for the default one.

        Raises `Problem`: 404 for a name that the settings do not describe, and 503 for one whose library is missing.
        """
        name = self._default if name is None else name
        if name in self._made:
            return self._made[name]
        make = self._make.get(name)
        if make is None:
            detail = f"There is no provider {name!r} here; there are: {', '.join(self._make)}."
            raise Problem(404, "unknown-provider", detail, field="provider")
        if name != "echo" and importlib.util.find_spec(name) is None:
            detail = f"The library of the provider {name!r} is not installed on this server: sse-kit[{name}]."
            raise Problem(503, "provider-unavailable", detail, field="provider")
        provider = self._made[name] = make()
        return provider

    def prompt(self, provider: Provider, request: GenerationRequest) -> Prompt:
        """Return what ``provider`` is asked. Raises `Problem`, 400, for what the settings or the provider do not allow."""
        model = provider.model if request.model is None else request.model
        if not self._may_use(provider, model):
            allowed = ", ".join(dict.fromkeys((provider.model, *(self._models or ()))))
            detail = f"The provider {provider.name!r} has no model {model!r} here; there are: {allowed}."
            raise Problem(400, "unknown-model", detail, field="model")
        max_tokens = self._max_tokens if request.max_tokens is None else request.max_tokens
        if max_tokens > self._max_tokens:
            detail = f"An answer has at most {self._max_tokens} tokens here, not {max_tokens}."
            raise Problem(
                400, "invalid-generation", detail, field="max_tokens", limit="max_tokens", value=self._max_tokens
            )
        if request.temperature is not None and not provider.takes_temperature:
            detail = f"The provider {provider.name!r} takes no temperature."
            raise Problem(400, "invalid-generation", detail, field="temperature")
        return Prompt(request.prompt, model, max_tokens, system=request.system, temperature=request.temperature)

    def _may_use(self, provider: Provider, model: str) -> bool:
        if model == provider.model:
            return True
        # Any other model would be the same echo under a better name.
        return bool(model) and provider.name != "echo" and (self._models is None or model in self._models)


def _openai(settings: Settings) -> Provider:
    from .openai import OpenAIProvider

    assert settings.openai_model is not None
    key = settings.openai_api_key
    return OpenAIProvider(
        base_url=settings.openai_base_url,
        api_key=None if key is None else key.get_secret_value(),
        model=settings.openai_model,
        bounds=_bounds(settings),
        token_limit=settings.openai_token_limit,
    )


def _anthropic(settings: Settings) -> Provider:
    from .anthropic import AnthropicProvider

    assert settings.anthropic_model is not None
    assert settings.anthropic_api_key is not None
    return AnthropicProvider(
        base_url=settings.anthropic_base_url,
        api_key=settings.anthropic_api_key.get_secret_value(),
        model=settings.anthropic_model,
        bounds=_bounds(settings),
    )


def _bounds(settings: Settings) -> Bounds:
    from .upstream import Bounds

    return Bounds(
        connect_timeout=settings.llm_connect_timeout,
        timeout=settings.llm_timeout,
        max_seconds=settings.llm_max_seconds,
        max_answer_bytes=settings.llm_max_answer_bytes,
        retries=settings.llm_retries,
    )
