from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sse_kit.topics import Sources, UnknownSourceError


class FakeSource:
    """Counts its starts and stops."""

    def __init__(self) -> None:
        self.starts = 0
        self.closes = 0

    def start(self) -> None:
        self.starts += 1

    def close(self) -> None:
        self.closes += 1


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def sources(source: FakeSource) -> Iterator[Sources]:
    """The sources of one log."""
    sources = Sources({"log/a": source})
    yield sources
    sources.close()


def test_nothing_starts_by_itself(source: FakeSource, sources: Sources) -> None:
    """A source starts with the first who asks for its topic, and once, however many ask at the same time."""
    sources.start(["other", "topics"])
    assert source.starts == 0

    askers = [threading.Thread(target=sources.start, args=(["other", "log/a"],)) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert source.starts == 1


def test_unknown_sources(sources: Sources) -> None:
    """A reserved topic that nothing publishes is told from others."""
    for topic in ("log/b", "server/x", "log/"):
        with pytest.raises(UnknownSourceError) as raised:
            sources.start(["a", topic])
        assert raised.value.topic == topic


def test_close(source: FakeSource, sources: Sources) -> None:
    """What was started is stopped, once; what never was is left alone."""
    sources.close()
    assert source.closes == 0

    sources.start(["log/a"])
    sources.close()
    sources.close()
    assert source.closes == 1
