"""The log against a list: whatever is appended, evicted and asked for, both say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_core.fanout.log import FrameLog

FRAMES = st.lists(st.binary(min_size=1, max_size=300), max_size=60)


class Model:
    """A log as a list of (number, id, frame), with the same bounds."""

    def __init__(self, floor: int, max_events: int, max_bytes: int) -> None:
        self.entries: list[tuple[int, int, bytes]] = []
        self.floor = floor
        self.next = 0
        self.max_events = max_events
        self.max_bytes = max_bytes

    def append(self, ident: int, frame: bytes) -> None:
        self.entries.append((self.next, ident, frame))
        self.next += 1
        while len(self.entries) > 1 and (
            len(self.entries) > self.max_events or sum(len(entry[2]) for entry in self.entries) > self.max_bytes
        ):
            self.evict(self.entries[1][0])

    def evict(self, upto: int) -> None:
        while self.entries and self.entries[0][0] < upto:
            self.floor = self.entries.pop(0)[1]


@given(
    frames=FRAMES,
    max_events=st.integers(1, 20),
    max_bytes=st.integers(1, 2000),
    steps=st.lists(st.integers(1, 5), min_size=60, max_size=60),
    evictions=st.dictionaries(st.integers(0, 59), st.integers(0, 60), max_size=5),
)
def test_log_agrees_with_a_list(
    frames: list[bytes], max_events: int, max_bytes: int, steps: list[int], evictions: dict[int, int]
) -> None:
    """A log within its bounds holds exactly the newest entries, finds them by id and by byte, and knows its floor."""
    log = FrameLog(floor=7, max_events=max_events, max_bytes=max_bytes)
    model = Model(7, max_events, max_bytes)
    ident = 7
    for step, frame in enumerate(frames):
        ident += steps[step]
        log.append(ident, frame)
        model.append(ident, frame)
        if step in evictions:
            log.evict(evictions[step])
            model.evict(evictions[step])
        entries = model.entries
        first = entries[0][0] if entries else model.next

        assert (log.first, log.next, log.floor) == (first, model.next, model.floor)
        for start in range(first, model.next + 1):
            assert b"".join(log.view(start, model.next)) == b"".join(e[2] for e in entries if e[0] >= start)
        for after in range(ident - 8, ident + 2):
            assert log.seek(after) == next((e[0] for e in entries if e[1] > after), model.next)
        offset = 0
        for entry_number, _, held in entries:
            assert log.at(offset) == log.at(offset + len(held) - 1) == entry_number
            offset += len(held)
        assert log.at(offset) == model.next


def test_a_quiet_log_owns_no_bytes() -> None:
    """A log has no ring before its first event, and gives it back when it becomes empty."""
    log = FrameLog()

    assert log.capacity == 0

    log.append(1, b"x" * 100)

    assert log.capacity >= 100

    log.evict(1)

    assert log.capacity == 0


def test_a_frame_above_the_bound_is_kept_alone() -> None:
    """An event that is larger than its topic's history is still held until the next one comes: it has to be sent."""
    log = FrameLog(max_bytes=10)
    log.append(1, b"a")
    log.append(2, b"b" * 100)

    assert (log.first, log.next, log.floor) == (1, 2, 1)

    log.append(3, b"c")

    assert log.view(2, 3) == [b"c"]


def test_views_outside_the_log_are_refused() -> None:
    """The Python face checks what the engine knows."""
    log = FrameLog()
    log.append(1, b"a")

    with pytest.raises(IndexError):
        log.view(0, 2)
