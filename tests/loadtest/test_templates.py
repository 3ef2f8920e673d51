"""Templates of URLs and bodies."""

from __future__ import annotations

import pytest

from loadtest.templates import TemplateError, fill


def test_json_stays_json() -> None:
    """Braces that are no names are text."""
    assert fill('{"topic": "{topic}", "data": {"text": "{data}"}}', {"topic": "a", "data": "b"}) == (
        '{"topic": "a", "data": {"text": "b"}}'
    )


def test_a_name_that_is_not_known_is_told() -> None:
    """A mistyped name is an error that says which there are, and no request with braces in it."""
    with pytest.raises(TemplateError, match=r"\{topics\} is nothing that is known here; there is \{key\}, \{topic\}"):
        fill("/events/{topics}", {"topic": "a", "key": "b"})
