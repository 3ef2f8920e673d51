"""Anthropic's messages, through the `anthropic` library."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from . import Finish, Prompt, failures
from .failures import Failure
from .streamed import StreamedGeneration
from .upstream import Bounds, Upstream, of_transport

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

    def generate(self, prompt: Prompt) -> StreamedGeneration[RawMessageStreamEvent]:
        """See `Provider`."""
        request: dict[str, Any] = {
            "model": prompt.model,
            "max_tokens": prompt.max_tokens,
            "messages": [{"role": "user", "content": prompt.text}],
        }
        if prompt.system is not None:
            request["system"] = prompt.system
        upstream = Upstream(NAME, self._bounds, secret=self._api_key)
        return StreamedGeneration(upstream, lambda client: self._open(client, request), _Progress(), _failure_of)

    def _open(self, http_client: httpx2.Client, request: dict[str, Any]) -> anthropic.Stream[RawMessageStreamEvent]:
        client = anthropic.Anthropic(
            base_url=self._base_url,
            api_key=self._api_key,
            http_client=http_client,
            # Retries are ours: the library would sleep where nobody can wake it.
            max_retries=0,
            open_telemetry=False,
        )
        stream: anthropic.Stream[RawMessageStreamEvent] = client.messages.create(**request, stream=True)
        return stream


class _Progress:
    """See `Progress`."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._sent: int | None = None
        self._given: int | None = None

    def read(self, event: RawMessageStreamEvent) -> list[str]:
        """See `Progress`."""
        match event.type:
            case "message_start":
                self._sent = event.message.usage.input_tokens
            case "content_block_delta" if event.delta.type == "text_delta":
                return [event.delta.text] if event.delta.text else []
            case "message_delta":
                self._reason = event.delta.stop_reason or self._reason
                self._given = event.usage.output_tokens
        return []

    def finish(self) -> Finish | None:
        """See `Progress`."""
        return None if self._reason is None else Finish(self._reason, self._sent, self._given)


def _failure_of(error: Exception) -> Failure | None:
    match error:
        case anthropic.APIStatusError(status_code=200):
            status = STATUS_OF_TYPE.get(error.type or "")
            return failures.REPORTED if status is None else failures.of_status(status, {})
        case anthropic.APIStatusError():
            return failures.of_status(error.status_code, error.response.headers)
        # The library wraps errors up to the head of the response; those of its body come as they are.
        case anthropic.APIConnectionError():
            return of_transport(error.__cause__)
        case httpx2.RequestError():
            return of_transport(error)
    return None
