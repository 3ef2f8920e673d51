"""The provider that is always there. It is no language model: it says the prompt back, word by word.

So everything around a model can be run, shown and tested without one: tokens that come one at a time, a bound on them,
resume, stop.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator

from sse_core import StoppedError

from . import Finish, Prompt

NAME = "echo"
# Scripts without spaces between words, Chinese and Japanese: a character is as good a token as any.
_WORD = re.compile(
    r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)|\s+"
)


class EchoProvider:
    """Answers with the prompt, a word every ``interval`` seconds. It has no use for a system prompt and a temperature."""

    name = NAME
    #: Its name stands in the event ``started``, and so nobody takes it for more than it is.
    model = NAME
    takes_temperature = True

    def __init__(self, interval: float) -> None:
        self._interval = interval

    def generate(self, prompt: Prompt) -> EchoGeneration:
        """See `Provider`."""
        return EchoGeneration(prompt, self._interval)


class EchoGeneration:
    """One prompt that is said back."""

    def __init__(self, prompt: Prompt, interval: float) -> None:
        self._prompt = prompt
        self._interval = interval
        self._aborted = threading.Event()

    def tokens(self) -> Generator[str, None, Finish]:
        """See `Generation`. ``stop`` or ``length`` are why it ended, and its usage counts words."""
        words: list[str] = _WORD.findall(self._prompt.text)
        said = words[: self._prompt.max_tokens]
        for word in said:
            if self._aborted.wait(self._interval):
                raise StoppedError("the answer was stopped")
            yield word
        return Finish("stop" if said == words else "length", input_tokens=len(words), output_tokens=len(said))

    def abort(self) -> None:
        """See `Generation`."""
        self._aborted.set()
