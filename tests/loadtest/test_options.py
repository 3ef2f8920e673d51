"""The options of a run."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from loadtest.options import OPTIONS, Options, add_to


def parse(*arguments: str, **defaults: object) -> Options:
    parser = argparse.ArgumentParser()
    add_to(parser, defaults)
    return Options.of(parser.parse_args(arguments))


def test_every_option_can_be_said() -> None:
    """Each field is an option of the command line with its default."""
    assert {each.name for each in OPTIONS} == {each.name for each in fields(Options)}
    assert parse() == Options()


def test_a_scenario_has_defaults_of_its_own() -> None:
    """What a scenario is asked with by default can be said otherwise."""
    assert parse(rate=0.0).rate == 0.0
    assert parse("--rate", "7", rate=0.0).rate == 7.0


def test_headers_are_repeated() -> None:
    """Several headers are several options."""
    assert parse("--header", "Authorization: Bearer x:y", "--header", "X-Test:1").headers == {
        "Authorization": "Bearer x:y",
        "X-Test": "1",
    }


@pytest.mark.parametrize(
    "arguments",
    [("--topics", "0"), ("--topics-a-stream", "2"), ("--burst", "0"), ("--publish-tries", "0"), ("--header", "none")],
)
def test_what_makes_no_sense_is_told(arguments: tuple[str, ...]) -> None:
    """An option that cannot be is an error before anything is started, and names the option."""
    with pytest.raises(ValueError, match=arguments[0]):
        parse(*arguments)
