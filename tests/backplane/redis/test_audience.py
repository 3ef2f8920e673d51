"""Who listens, over all processes."""

from __future__ import annotations

import pytest

from sse_core import ConfigurationError
from tests.backplane.redis.hubs import MakeHub, listen
from tests.fanout.harness import eventually


class TestTogether:
    """What processes know of each other."""

    def test_streams_and_workers_are_counted_over_all_hubs(self, make: MakeHub) -> None:
        """Each hub can say how many streams a topic has anywhere, and how many processes share the namespace."""
        one, two = make(), make()
        streams = [listen(one, "a"), listen(two, ["a", "b"]), listen(two, "b")]
        eventually(lambda: one.audience() == {"a": 2, "b": 2}, "the reports")
        assert two.audience(["a", "none"]) == {"a": 2, "none": 0}
        assert len(one.workers()) == 2

        streams[1].socket.close()
        eventually(lambda: two.audience() == {"a": 1, "b": 1}, "the next reports")
        two.close()
        eventually(lambda: len(one.workers()) == 1 and one.audience() == {"a": 1}, "the worker's leave")

    def test_who_is_on_a_topic_is_known_everywhere(self, make: MakeHub) -> None:
        """Streams opened with a subject make it present on their topics until they end."""
        one, two = make(), make()
        streams = [
            listen(one, "a", subject="alice"),
            listen(two, ["a", "b"], subject="alice"),
            listen(two, "a", subject="bob"),
        ]
        eventually(lambda: one.presence("a") == {"alice": 2, "bob": 1}, "the reports")
        assert one.presence("b") == {"alice": 1}

        streams[2].socket.close()
        eventually(lambda: one.presence("a") == {"alice": 2}, "the next reports")

    def test_a_subject_that_cannot_be_told_is_refused(self, make: MakeHub) -> None:
        """A subject out of a token can be anything; one that is no text stops nobody else."""
        hub = make()
        with pytest.raises(ConfigurationError, match="subject"):
            hub.subscribe("a", subject="\ud800")

        assert hub.publish("a", "x").id
