"""Topics: names, and options by pattern."""

from __future__ import annotations

import pytest

from sse_core import ConfigurationError, TopicError, TopicOptions
from sse_core.topics import TopicRules, check_topic


@pytest.mark.parametrize("name", ["a", "log/nginx", "jobs:42", "日本", "x" * 200, "with space", "*"])
def test_names_are_free_text(name: str) -> None:
    """A topic's name is any short text; a star in it is a star."""
    assert check_topic(name) == name


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x85b", "x" * 201, "日" * 67, "\ud800", 5, None, b"a"]
)
def test_names_that_would_do_harm_are_refused(name: object) -> None:
    """Control characters, outer space, lone surrogates and overlong names are errors, never cleaned."""
    with pytest.raises(TopicError):
        check_topic(name)


def test_the_first_matching_pattern_counts() -> None:
    """Options are given by shell-style pattern, in the order in which they were written."""
    log, rest = TopicOptions(history_events=5), TopicOptions(policy="latest")
    rules = TopicRules({"log/*": log, "l*": rest})

    assert rules.options("log/a") is log
    assert rules.options("list") is rest
    assert rules.options("other") == TopicOptions()


@pytest.mark.parametrize(
    "options",
    [{"policy": "drop"}, {"history_events": 0}, {"history_bytes": 0}, {"lag_bytes": 0}, {"history_age": -1}],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    """An option that cannot be is refused by name, when it is given and not when it is used."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        TopicOptions(**options)  # type: ignore[arg-type]
