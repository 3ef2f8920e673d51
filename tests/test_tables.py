"""Tables of numbers outside Python: whatever is put into them is found, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core.tables import Counts, Records

#: Few, many of which have the same home in a table of any size, at the ends of their range, and in a row.
KEYS = st.one_of(
    st.integers(1, 40),
    st.integers(0, 40).map(lambda number: (number << 32) + 7),
    st.integers(0, 40).map(lambda number: (number << 5) + 31),
    st.integers(0, 5).map(lambda number: (1 << 64) - 1 - number),
)


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=400))
def test_counts_are_those_of_a_counter(steps: list[tuple[bool, int]]) -> None:
    """After any additions and subtractions each number has the count that a Counter has, and those without are forgotten."""
    counts, expected = Counts(), Counter[int]()
    for adds, key in steps:
        if adds:
            counts.add(key)
            expected[key] += 1
        elif expected[key]:
            counts.take(key)
            expected[key] -= 1
        else:
            with pytest.raises(KeyError):
                counts.take(key)
        assert counts.count(key) == expected[key]
    for key in {key for _, key in steps}:
        assert counts.count(key) == expected[key]
    assert len(counts) == len(+expected)


@given(st.lists(st.tuples(st.booleans(), KEYS, st.binary(max_size=20)), max_size=400))
def test_records_are_those_of_a_dict(steps: list[tuple[bool, int, bytes]]) -> None:
    """After any puts and pops each number has the record that a dict has; one that is there is not replaced unseen."""
    records: Records = Records()
    expected: dict[int, bytes] = {}
    for puts, key, record in steps:
        if not puts:
            assert records.pop(key) == expected.pop(key, None)
        elif key in expected:
            with pytest.raises(KeyError):
                records.put(key, record)
        else:
            records.put(key, record)
            expected[key] = record
        assert len(records) == len(expected)
    assert dict(records.having(b"")) == expected
    assert len(list(records.having(b""))) == len(expected)
    for piece in set(expected.values()) | {b"\x00", b"ab"}:
        assert dict(records.having(piece)) == {key: record for key, record in expected.items() if piece in record}


@pytest.mark.parametrize("count", [1, 12, 13, 1000, 50_000])
def test_a_table_grows_and_shrinks(count: int) -> None:
    """A table finds all that is in it while it grows, and while it is emptied again."""
    records = Records()
    for key in range(1, count + 1):
        records.put(key, b"%d" % key)
    assert dict(records.having(b"")) == {key: b"%d" % key for key in range(1, count + 1)}
    for key in range(1, count + 1):
        assert records.pop(key) == b"%d" % key
        assert records.pop(key) is None
    assert list(records.having(b"")) == []


def test_numbers_in_a_row_are_no_run() -> None:
    """The oldest of many is taken out as fast as the newest: what lies between the two is not looked at."""
    records = Records()
    for key in range(1, 200_001):
        records.put(key, b"")
    # Of a run it would be all of them for each: 2 x 10^10 places, some minutes.
    for key in range(1, 200_001):
        assert records.pop(key) == b""
    assert len(records) == 0


def test_what_is_looked_through_may_change() -> None:
    """A table that shrinks or grows while somebody looks through it is left alone by that."""
    records = Records()
    for key in range(1, 20_001):
        records.put(key, b"%d" % key)
    seen = 0
    for _ in records.having(b""):
        seen += 1
        if seen == 10:
            for key in range(1, 20_001):
                records.pop(key)
    assert 10 <= seen < 100
    records.put(1, b"1")
    seen = 0
    for _ in records.having(b""):
        seen += 1
        if seen == 1:
            for key in range(2, 2_001):
                records.put(key, b"")
    assert 1 <= seen <= 2_000


def test_room_is_made_before() -> None:
    """With room reserved the numbers that follow are added as ever."""
    counts = Counts()
    counts.reserve(1_000)
    for key in range(1, 1_001):
        counts.add(key)
    counts.reserve(0)
    assert [counts.count(key) for key in range(1_002)] == [0, *[1] * 1_000, 0]
    with pytest.raises(MemoryError):
        counts.reserve(1 << 56)
    assert len(counts) == 1_000


def test_0_is_no_key() -> None:
    """The number 0 can be asked for and never put."""
    records, counts = Records(), Counts()
    with pytest.raises(ValueError, match="above 0"):
        records.put(0, b"")
    with pytest.raises(ValueError, match="above 0"):
        counts.add(0)
    for key in range(1, 100):
        records.put(key, b"")
        counts.add(key)
    assert records.pop(0) is None
    assert counts.count(0) == 0
    with pytest.raises(KeyError):
        counts.take(0)
    assert (len(records), len(counts)) == (99, 99)
