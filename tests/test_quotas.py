"""Quotas: how many streams of one client there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest

from sse_core import Hub
from sse_core.quotas import Quotas
from sse_core.stream import EventStream


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a loop has done its part."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_quota_is_full_at_its_bound() -> None:
    """There is room for the last one, and none for one more; who leaves makes room, however often that is said."""
    quotas = Quotas()
    both = {"a": 2, "b": 5}
    assert not quotas
    quotas.enter(1, both)
    assert quotas.full(both) is None
    quotas.enter(2, both)
    assert quotas.full(both) == "a"
    assert quotas.full({"b": 5}) is None
    assert quotas.counts() == {"a": 2, "b": 2}

    quotas.leave(1)
    quotas.leave(1)
    quotas.leave(7)
    assert quotas.full(both) is None
    assert quotas.counts() == {"a": 1, "b": 1}
    quotas.leave(2)
    assert quotas.counts() == {}
    assert not quotas


@pytest.fixture
def hub() -> Hub:
    return Hub(retry=None)


def opened(hub: Hub, quotas: dict[str, int]) -> EventStream:
    """A stream whose opening was sent, by the portable path."""
    stream = hub.subscribe("a")
    stream.quotas = quotas
    next(stream)
    return stream


def test_streams_count_until_they_end(hub: Hub) -> None:
    """A stream counts while it is open; how it ends is of no matter."""
    with closing(hub):
        streams = [opened(hub, {"x": 2}) for _ in range(2)]
        hub.publish("a", "1")
        for stream in streams:
            next(stream)
        assert hub.full({"x": 2}) == "x"
        assert hub.full({"x": 3}) is None
        assert hub.full({"y": 1}) is None
        streams[0].close()
        eventually(lambda: hub.full({"x": 2}) is None)
        streams[1].close()
        eventually(lambda: hub.full({"x": 1}) is None)


def test_one_that_comes_too_late_ends_after_its_opening(hub: Hub) -> None:
    """Of several that begin at the same time only so many stay; for the others the answer ends, and they come back."""
    with closing(hub):
        streams = [opened(hub, {"x": 3}) for _ in range(5)]
        hub.publish("a", "1")
        received = [b"".join([next(stream, b"")]) for stream in streams]

        assert [bool(chunk) for chunk in received] == [True, True, True, False, False]
        assert hub.streams == 3
        assert hub.stats()["quota_refused"] == 2
        for stream in streams:
            stream.close()


def test_many_that_end_at_once_are_all_counted_off(hub: Hub) -> None:
    """However many streams end before anybody looks, none of them is counted for ever."""
    with closing(hub):
        streams = [opened(hub, {"x": 10_000}) for _ in range(400)]
        hub.publish("a", "1")
        for stream in streams:
            next(stream)
        for stream in streams:
            stream.close()
        eventually(lambda: hub.streams == 0)

        assert hub.full({"x": 1}) is None
