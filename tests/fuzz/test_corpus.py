"""Whatever the fuzzer has found is handled rightly, for good: each input that reached something new is replayed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from .targets.choices import Choices

CORPUS = Path(__file__).parent / "corpus"
TARGETS = ("parsing", "framing", "log", "publishing", "requests")


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_was_kept(name: str) -> None:
    """No input of the corpus makes the product break what the target asks of it."""
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    target = importlib.import_module(f"tests.fuzz.targets.{name}")
    for path in inputs:
        try:
            target.run(path.read_bytes())
        except Exception as error:
            error.add_note(f"with the input {path}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_too_short(name: str) -> None:
    """Where the bytes end early a target goes on with zeros."""
    target = importlib.import_module(f"tests.fuzz.targets.{name}")
    for data in (b"", b"\0", b"\xff", b"\xff" * 3):
        target.run(data)


def test_choices_are_read_from_the_front() -> None:
    """Numbers and text come off the bytes in order, and are zero and empty once these are used up."""
    choices = Choices(b"\x07\x02abrest")
    assert (choices.number(5), choices.text(10), choices.left) == (2, "ab", 4)
    assert (choices.take(9), choices.number(300), choices.text(3), choices.left) == (b"rest", 0, "", 0)
