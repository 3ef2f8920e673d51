"""Ids: text to number and back, and what is no id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core.ids import format_id, parse_id


@given(st.integers(0, 2**64 - 1))
def test_every_number_has_one_text(number: int) -> None:
    """An id's text is its milliseconds, a hyphen and its sequence, and reads back as the same number."""
    text = format_id(number)

    assert text == f"{number >> 20}-{number & 0xFFFFF}"
    assert parse_id(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "1", "1-", "-1", "1-2-3", "a-b", " 1-2", "1-2 ", "+1-2", "1_0-2", "1.5-2", "٣-٤", "1-1048576",
        "17592186044416-0", "9" * 5000 + "-0", "0x1-0", "1\x00-2", "$",
    ],
)  # fmt: skip
def test_what_is_no_id_is_none(text: str) -> None:
    """Whatever a client may send as an id is told apart from one without an error, however long it is."""
    assert parse_id(text) is None


def test_order_is_that_of_numbers() -> None:
    """Ids compare by milliseconds first, then by sequence, as numbers do and texts do not."""
    texts = ["9-0", "10-0", "10-2", "10-10", "11-0"]
    numbers = [parse_id(text) or 0 for text in texts]

    assert numbers == sorted(numbers)
