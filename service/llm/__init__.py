"""Answers of language models: what is asked, what a provider is, and what it gives.

A provider is named in the settings and made by `sse_kit.llm.providers`; nothing else here knows a vendor, and a vendor's
library is imported when its provider is made, so that none of them has to be installed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. ``max_tokens`` is the most that the answer may have; None leaves the rest to the provider."""

    text: str
    model: str
    max_tokens: int
    system: str | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended: the vendor's own word for why, and the tokens it counted, where it told them."""

    reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None

    def members(self) -> dict[str, object]:
        """The same as members of the event ``done``; ``usage`` is null if the provider has told nothing."""
        usage = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        known = any(tokens is not None for tokens in usage.values())
        return {"finish_reason": self.reason, "usage": usage if known else None}


class Generation(Protocol):
    """One answer in the making."""

    def tokens(self) -> Generator[str, None, Finish]:
        """Yield the answer's text, piece by piece as it comes, and return how it ended. To be called once.

        Raises `FailedError`, with a text that may be shown to anybody, for whatever the provider does wrong or refuses.
        Nothing is open before the first piece is asked for, nor after the end; closing it early ends it.
        """

    def abort(self) -> None:
        """End it from another thread, at once, also while it waits for its provider. May be repeated, and come first.

        Whoever waits for the next piece then gets `StoppedError`.
        """


class Provider(Protocol):
    """What answers prompts. Thread-safe."""

    #: By which requests choose it.
    name: str
    #: What answers if a request names no model.
    model: str
    #: Whether a prompt may have a temperature.
    takes_temperature: bool

    def generate(self, prompt: Prompt) -> Generation:
        """Return the answer to ``prompt``, not begun. Does nothing yet, and raises nothing."""
