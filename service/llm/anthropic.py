"""Anthropic's messages, through the `anthropic` library."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from . import Finish, Prompt, failures
from .failures import Failure
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
        progress = _Progress()
        with self._upstream as http_client:
            client = self._make_client(http_client)
            events = self._upstream.open(lambda: self._open(client), _failure_of)
            try:
                for event in events:
                    yield from progress.read(event)
                return progress.finish()
            except Exception as error:
                self._upstream.give_up(error, _failure_of(error))

    def _open(self, client: anthropic.Anthropic) -> anthropic.Stream[RawMessageStreamEvent]:
        stream: anthropic.Stream[RawMessageStreamEvent] = client.messages.create(**self._request, stream=True)
        return stream

    def abort(self) -> None:
        """See `Generation`."""
        self._upstream.abort()


class _Progress:
    """What is known of an answer while it comes. The library does not check what it is sent: this does."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._sent: int | None = None
        self._given: int | None = None

    def read(self, event: RawMessageStreamEvent) -> list[str]:
        """Return the tokens of an event. Raises `_MalformedError`."""
        try:
            match event.type:
                case "message_start":
                    self._sent = event.message.usage.input_tokens
                case "content_block_delta" if event.delta.type == "text_delta":
                    return [event.delta.text] if event.delta.text else []
                case "message_delta":
                    self._reason = event.delta.stop_reason or self._reason
                    self._given = event.usage.output_tokens
        except (AttributeError, TypeError) as error:
            raise _MalformedError(str(error)) from None
        return []

    def finish(self) -> Finish:
        """Return how it ended. Raises `_IncompleteError`."""
        if self._reason is None:
            # Also what a body without a length looks like when its connection breaks.
            raise _IncompleteError("no stop_reason has come")
        return Finish(self._reason, self._sent, self._given)


class _MalformedError(Exception):
    """What came is not of the format."""


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
        case anthropic.APIConnectionError():
            return of_transport(error.__cause__)
        case httpx2.RequestError():
            return of_transport(error)
        case _IncompleteError():
            return failures.DROPPED
        # Neither JSON nor UTF-8 are wrapped by the library.
        case _MalformedError() | ValueError():
            return failures.MALFORMED
    return None
