"""Each test of the fan-out runs twice: with all sends through io_uring, and with a system call for each."""

from __future__ import annotations

import pytest

from . import harness


@pytest.fixture(autouse=True, params=[1, 0], ids=["ring", "send"])
def ring_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many subscribers of a topic on the engines of this test use the ring; 0: never."""
    chosen: int = request.param
    monkeypatch.setitem(harness.OPTIONS, "ring_from", chosen)
    return chosen
