"""What an event carries through any server, and how a receiver knows that it is the same."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.stamp import AlteredError, Stamp, encode, find

STAMP = Stamp("a1b2", 3, "load-a1b2-7", 42, 123_456_789, False)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**9), st.integers(0, 10**15), st.booleans(), st.integers(0, 5000))
def test_what_is_encoded_is_found(source: int, number: int, microseconds: int, is_mark: bool, size: int) -> None:
    """A stamp comes back as it was, whatever its numbers and its size."""
    stamp = Stamp("run", source, "rooms/one.two-3_4", number, microseconds, is_mark)

    assert find(encode(stamp, size)) == stamp


@pytest.mark.parametrize("size", [0, 200, 201, 4000])
def test_it_is_as_long_as_asked(size: int) -> None:
    """The data of an event has the size that was asked for, or the stamp's own if that is more."""
    assert len(encode(STAMP, size)) == max(size, len(encode(STAMP)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: json.dumps(text),
        lambda text: json.dumps({"message": {"text": text}}),
        lambda text: f"<li>{text}</li>",
        lambda text: quote(text),
    ],
)
def test_it_is_found_in_what_a_server_makes_of_it(wrap: object) -> None:
    """JSON, markup or the coding of URLs around it change nothing: no character of a stamp means anything in them."""
    assert callable(wrap)
    assert find(wrap(encode(STAMP, 300))) == STAMP


def test_what_was_changed_is_told() -> None:
    """A number, a letter or the length that is not what was published is an altered event, and so is one that is cut off."""
    text = encode(STAMP, 300)

    for altered in (text.replace("~42~", "~43~"), text.replace("--.", "-."), text[:60], text[:-1]):
        with pytest.raises(AlteredError):
            find(altered)


def test_what_others_published_has_no_stamp() -> None:
    """An event of somebody else is neither ours nor altered."""
    assert find('{"price": 5}') is None
