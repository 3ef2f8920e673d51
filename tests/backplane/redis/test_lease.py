"""Leases that processes take from each other."""

from __future__ import annotations

from tests.backplane.redis.hubs import MakeHub
from tests.fanout.harness import eventually


class TestLease:
    """A holder, and who waits for it."""

    def test_a_lease_has_one_holder_and_hands_its_note_on(self, make: MakeHub) -> None:
        """A lease is taken by one process, and by another, with the note, when the first does not renew it."""
        first, second = make().lease("tail", seconds=0.5), make().lease("tail", seconds=0.5)
        assert first.hold("line 7")
        assert not second.hold("mine")
        eventually(second.hold, "the lease to run out")

        assert second.note == "line 7"
        assert not first.hold()
        second.release()
        assert first.hold()
