"""Any server that speaks OpenAI's chat completions: OpenAI itself, vLLM, Ollama, llama.cpp and more, by its base URL."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from . import Finish, Prompt, failures
from .failures import Failure
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

    def generate(self, prompt: Prompt) -> OpenAIGeneration:
        """See `Provider`."""
        upstream = Upstream(NAME, self._bounds, secret=self._api_key)
        return OpenAIGeneration(upstream, self._client, self.request(prompt))

    def _client(self, http_client: httpx2.Client) -> openai.OpenAI:
        # Retries are ours: the library would sleep where nobody can wake it.
        return openai.OpenAI(
            base_url=self._base_url, api_key=self._api_key or NO_KEY, http_client=http_client, max_retries=0
        )

    def request(self, prompt: Prompt) -> dict[str, Any]:
        """Return the chat completion that a prompt is, but for how it is sent."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt.text}]
        if prompt.system is not None:
            messages.insert(0, {"role": "system", "content": prompt.system})
        request: dict[str, Any] = {"model": prompt.model, "messages": messages, self._token_limit: prompt.max_tokens}
        if prompt.temperature is not None:
            request["temperature"] = prompt.temperature
        return request


class OpenAIGeneration:
    """One chat completion, streamed."""

    def __init__(
        self, upstream: Upstream, make_client: Callable[[httpx2.Client], openai.OpenAI], request: dict[str, Any]
    ) -> None:
        self._upstream = upstream
        self._make_client = make_client
        self._request = request

    def tokens(self) -> Generator[str, None, Finish]:
        """See `Generation`. A refusal is an answer too, and comes as one."""
        progress = _Progress()
        with self._upstream as http_client:
            client = self._make_client(http_client)
            chunks = self._upstream.open(lambda: self._open(client), _failure_of)
            try:
                for chunk in chunks:
                    yield from progress.read(chunk)
                return progress.finish()
            except Exception as error:
                self._upstream.give_up(error, _failure_of(error))

    def _open(self, client: openai.OpenAI) -> openai.Stream[ChatCompletionChunk]:
        stream: openai.Stream[ChatCompletionChunk] = client.chat.completions.create(
            **self._request, stream=True, stream_options={"include_usage": True}
        )
        return stream

    def abort(self) -> None:
        """See `Generation`."""
        self._upstream.abort()


class _Progress:
    """What is known of an answer while it comes. The library does not check what it is sent: this does."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._usage: tuple[int | None, int | None] = (None, None)

    def read(self, chunk: ChatCompletionChunk) -> list[str]:
        """Return the tokens of a chunk. Raises `_MalformedError`."""
        try:
            if chunk.usage is not None:
                self._usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            # Not every server that speaks this format sends all members of it.
            choices = chunk.choices or ()
            for choice in choices:
                self._reason = choice.finish_reason or self._reason
            texts = [choice.delta and (choice.delta.content or choice.delta.refusal) for choice in choices]
        except (AttributeError, TypeError) as error:
            raise _MalformedError(str(error)) from None
        return [text for text in texts if text]

    def finish(self) -> Finish:
        """Return how it ended. Raises `_IncompleteError`."""
        if self._reason is None:
            # Also what a body without a length looks like when its connection breaks.
            raise _IncompleteError("no finish_reason has come")
        return Finish(self._reason, *self._usage)


class _MalformedError(Exception):
    """What came is not of the format."""


class _IncompleteError(Exception):
    """What came is no whole answer."""


def _failure_of(error: Exception) -> Failure | None:
    match error:
        case openai.APIStatusError():
            return failures.of_status(error.status_code, error.response.headers)
        case openai.APIConnectionError():
            return of_transport(error.__cause__)
        case openai.APIError():
            return _reported(error)
        case _IncompleteError():
            return failures.DROPPED
        # Neither JSON nor UTF-8 are wrapped by the library.
        case _MalformedError() | ValueError():
            return failures.MALFORMED
    return None


def _reported(error: openai.APIError) -> Failure:
    """Return the failure that an error in the middle of a stream is; servers put a status or a word into its code."""
    code = error.code or ""
    if code.isdecimal() and 400 <= int(code) < 600:
        return failures.of_status(int(code), {})
    if "rate_limit" in code or "rate_limit" in (error.type or ""):
        return failures.LIMITED
    return failures.REPORTED
