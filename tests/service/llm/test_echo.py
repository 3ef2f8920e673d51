from __future__ import annotations

import threading

import pytest

from sse_core import StoppedError
from sse_kit.llm import Finish, Prompt
from sse_kit.llm.echo import EchoProvider
from tests.service.llm.vendor import WAIT, read

ECHO = EchoProvider(interval=0.001)


def said(text: str, max_tokens: int = 100) -> tuple[list[str], object]:
    return read(ECHO.generate(Prompt(text, "echo", max_tokens)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Why is it?", ["Why", " is", " it?"]),
        (" a\n\n b ", [" a", "\n\n b", " "]),
        ("你好,世界", ["你", "好", ",", "世", "界"]),
        ("ab世cd", ["ab", "世", "cd"]),
        ("e\u0301a नमस्ते", ["e\u0301a", " नमस्ते"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Nothing is added to the prompt and nothing left out: its words are the tokens."""
    assert said(text) == (words, Finish("stop", len(words), len(words)))


def test_the_bound_on_tokens() -> None:
    """It ends where a model would, and says the same about it."""
    assert said("one two three", 2) == (["one", " two"], Finish("length", 3, 2))
    assert said("one two", 2) == (["one", " two"], Finish("stop", 2, 2))


def test_abort_ends_the_pause() -> None:
    """A pause of hours ends at once."""
    generation = EchoProvider(interval=3600).generate(Prompt("a", "echo", 1))
    threading.Timer(0.05, generation.abort).start()
    ended: list[object] = []
    thread = threading.Thread(target=lambda: ended.append(read(generation)[1]))
    thread.start()
    thread.join(WAIT)

    assert isinstance(ended[0], StoppedError)
