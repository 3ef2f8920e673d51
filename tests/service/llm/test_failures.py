from __future__ import annotations

import re
from pathlib import Path

import pytest

from sse_kit.llm import failures
from sse_kit.llm.failures import Failure, of_status

DOCUMENT = Path(__file__).parents[3] / "docs" / "generate.md"
# What a hub says of any run that ends early.
OF_ANY_RUN = {"abandoned", "interrupted", "error"}


def test_every_reason_is_documented() -> None:
    """The table of failures has each reason that the code can give, and no other."""
    given = {each.reason for each in vars(failures).values() if isinstance(each, Failure)}
    given |= {of_status(status, {}).reason for status in range(300, 600)}
    table = DOCUMENT.read_text().partition("| failure |")[2].partition("\n\n")[0]

    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == given | OF_ANY_RUN


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("20", 20.0), ("0.5", 0.5), ("0", 0.0), ("-1", None), ("soon", None), ("nan", None), ("inf", None), ("", None)],
)
def test_what_a_provider_asks_to_wait(header: str, seconds: float | None) -> None:
    """A number of seconds is passed on; a date, or nonsense, is not."""
    assert of_status(429, {"retry-after": header}).retry_after == seconds


def test_a_provider_may_say_itself_whether_to_try_again() -> None:
    """Its word counts more than the status."""
    repeatable = [of_status(status, {}).repeatable for status in (408, 429, 500, 529, 400, 401, 404)]

    assert repeatable == [True, True, True, True, False, False, False]
    assert not of_status(429, {"x-should-retry": "false"}).repeatable
    assert of_status(400, {"x-should-retry": "true"}).repeatable


def test_what_is_shown() -> None:
    """The event has the reason, a sentence, and what is known beside them."""
    error = of_status(429, {"retry-after": "20"}).error()

    assert (error.reason, error.members) == ("rate-limited", {"status": 429, "retry_after": 20.0})
    assert failures.TIMEOUT.error().members == {}
