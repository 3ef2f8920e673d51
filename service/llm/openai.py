"""Any server that speaks OpenAI's chat completions: OpenAI itself, vLLM, Ollama, llama.cpp and more, by its base URL."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from . import Finish, Prompt, failures
from .failures import Failure
from .streamed import StreamedGeneration
from .upstream import Bounds, Upstream, of_transport

NAME = "openai"
HOST = "api.openai.com"
# The library insists on a key; a server of one's own that asks for none ignores it.
NO_KEY = "none"

TokenLimit = Literal["max_tokens", "max_completion_tokens"]


class OpenAIProvider:
    """Answers through the `openai` library. ``model`` is the default one, ``api_key`` None for a server that needs none.

    ``token_limit`` is what the server calls the bound on an answer's tokens. None: as OpenAI does there, whose newer
    models refuse the old name, and by that old name elsewhere: many servers silently ignore the new one.
    """

    name = NAME
    takes_temperature = True

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        model: str,
        bounds: Bounds,
        token_limit: TokenLimit | None = None,
    ) -> None:
        self.model = model
        self._base_url = base_url
        self._api_key = api_key
        self._bounds = bounds
        at_openai = urlsplit(base_url).hostname == HOST
        self._token_limit = token_limit or ("max_completion_tokens" if at_openai else "max_tokens")

    def generate(self, prompt: Prompt) -> StreamedGeneration[ChatCompletionChunk]:
        """See `Provider`."""
        upstream = Upstream(NAME, self._bounds, secret=self._api_key)
        request = self.request(prompt)
        return StreamedGeneration(upstream, lambda client: self._open(client, request), _Progress(), _failure_of)

    def _open(self, http_client: httpx2.Client, request: dict[str, Any]) -> openai.Stream[ChatCompletionChunk]:
        # Retries are ours: the library would sleep where nobody can wake it.
        client = openai.OpenAI(
            base_url=self._base_url, api_key=self._api_key or NO_KEY, http_client=http_client, max_retries=0
        )
        stream: openai.Stream[ChatCompletionChunk] = client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
        return stream

    def request(self, prompt: Prompt) -> dict[str, Any]:
        """Return the chat completion that a prompt is, but for how it is sent."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt.text}]
        if prompt.system is not None:
            messages.insert(0, {"role": "system", "content": prompt.system})
        request: dict[str, Any] = {"model": prompt.model, "messages": messages, self._token_limit: prompt.max_tokens}
        if prompt.temperature is not None:
            request["temperature"] = prompt.temperature
        return request


class _Progress:
    """See `Progress`. A refusal is an answer too, and comes as one."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._usage: tuple[int | None, int | None] = (None, None)

    def read(self, chunk: ChatCompletionChunk) -> list[str]:
        """See `Progress`."""
        if chunk.usage is not None:
            self._usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        # Not every server that speaks this format sends all members of it.
        choices = chunk.choices or ()
        for choice in choices:
            self._reason = choice.finish_reason or self._reason
        texts = [choice.delta and (choice.delta.content or choice.delta.refusal) for choice in choices]
        return [text for text in texts if text]

    def finish(self) -> Finish | None:
        """See `Progress`."""
        return None if self._reason is None else Finish(self._reason, *self._usage)


def _failure_of(error: Exception) -> Failure | None:
    match error:
        case openai.APIStatusError():
            return failures.of_status(error.status_code, error.response.headers)
        case openai.APIConnectionError():
            return of_transport(error.__cause__)
        case openai.APIError():
            return _reported(error)
    return None


def _reported(error: openai.APIError) -> Failure:
    """Return the failure that an error in the middle of a stream is; servers put a status or a word into its code."""
    code = error.code or ""
    if code.isdecimal() and 400 <= int(code) < 600:
        return failures.of_status(int(code), {})
    if "rate_limit" in code or "rate_limit" in (error.type or ""):
        return failures.LIMITED
    return failures.REPORTED
