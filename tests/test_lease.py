"""Leases where there is one process. Those that processes take from each other are the Redis backplane's."""

from __future__ import annotations

from sse_core import Hub


def test_a_lease_in_memory_is_always_held() -> None:
    """Where there is one process it holds every lease, and its note is kept."""
    with Hub() as hub:
        lease = hub.lease("tail")
        assert lease.hold("7")
        assert lease.note == "7"
        lease.release()
        assert hub.lease("tail").hold()
        assert lease.hold()
        assert lease.note == "7"
