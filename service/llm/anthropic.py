"""Anthropic's messages, through the `anthropic` library."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from . import Finish, Prompt, failures
from .failures import Failure
from .upstream import Bounds, Upstream

NAME = "anthropic"

# What an `event: error` in the middle of a stream is, by its type: the status of the response was 200 long ago.
STATUS_OF_TYPE = {
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicProvider:
    """Answers through the `anthropic` library. ``model`` is the default one."""

    name = NAME
    #: Since the version of its API that is of October 2026 every value is refused, the default one too.
    takes_temperature = False

    def __init__(self, *, base_url: str, api_key: str, model: str, bounds: Bounds) -> None:
        self.model = model
        self._base_url = base_url
        self._api_key = api_key
        self._bounds = bounds

    def generate(self, prompt: Prompt) -> AnthropicGeneration:
        """See `Provider`."""
        request: dict[str, Any] = {
            "model": prompt.model,
            "max_tokens": prompt.max_tokens,
            "messages": [{"role": "user", "content": prompt.text}],
        }
        if prompt.system is not None:
            request["system"] = prompt.system
        upstream = Upstream(NAME, self._bounds, secret=self._api_key)
        return AnthropicGeneration(upstream, self._client, request)

    def _client(self, http_client: httpx2.Client) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            base_url=self._base_url,
            api_key=self._api_key,
            http_client=http_client,
            # Retries are ours: the library would sleep where nobody can wake it.
            max_retries=0,
            open_telemetry=False,
        )


class AnthropicGeneration:
    """One message, streamed."""

    def __init__(
        self, upstream: Upstream, make_client: Callable[[httpx2.Client], anthropic.Anthropic], request: dict[str, Any]
    ) -> None:
        self._upstream = upstream
        self._make_client = make_client
        self._request = request

    def tokens(self) -> Generator[str, None, Finish]:
        """See `Generation`."""
        reason: str | None = None
        sent: int | None = None
        given: int | None = None
        with self._upstream as http_client:
            client = self._make_client(http_client)
            events = self._upstream.open(lambda: self._open(client), _failure_of)
            try:
                for event in events:
                    match event.type:
                        case "message_start":
                            sent = event.message.usage.input_tokens
                        case "content_block_delta" if event.delta.type == "text_delta":
                            if event.delta.text:
                                yield event.delta.text
                        case "message_delta":
                            reason = event.delta.stop_reason or reason
                            given = event.usage.output_tokens
                if reason is None:
                    # Also what a body without a length looks like when its connection breaks.
                    raise _IncompleteError("no stop_reason has come")
            except Exception as error:
                self._upstream.give_up(error, _failure_of(error))
        return Finish(reason, sent, given)

    def _open(self, client: anthropic.Anthropic) -> anthropic.Stream[RawMessageStreamEvent]:
        stream: anthropic.Stream[RawMessageStreamEvent] = client.messages.create(**self._request, stream=True)
        return stream

    def abort(self) -> None:
        """See `Generation`."""
        self._upstream.abort()


class _IncompleteError(Exception):
    """What came is no whole answer."""


def _failure_of(error: Exception) -> Failure | None:
    match error:
        case anthropic.APIStatusError(status_code=200):
            status = STATUS_OF_TYPE.get(error.type or "")
            return failures.REPORTED if status is None else failures.of_status(status, {})
        case anthropic.APIStatusError():
            return failures.of_status(error.status_code, error.response.headers)
        # The library wraps errors up to the head of the response; those of its body come as they are.
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            return failures.TIMEOUT
        case anthropic.APIConnectionError():
            return failures.UNREACHABLE if isinstance(error.__cause__, httpx2.ConnectError) else failures.DROPPED
        case httpx2.RequestError() | _IncompleteError():
            return failures.DROPPED
        # Neither JSON nor UTF-8 are wrapped by the library.
        case ValueError():
            return failures.MALFORMED
    return None
