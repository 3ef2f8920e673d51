"""The judge of one stream: what it was owed by numbers, and what it got."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.ledger import Final, StreamLedger


def stream(*topics: str, from_start: bool = True) -> StreamLedger:
    return StreamLedger("0.0", topics or ("a",), from_start=from_start)


def feed(ledger: StreamLedger, *numbers: int, topic: str = "a", source: int = 0) -> list[str | None]:
    return [ledger.received(source, topic, number) for number in numbers]


def lost(ledger: StreamLedger, last: int, *unknown: int, topic: str = "a") -> tuple[int, int]:
    found = ledger.losses({(0, topic): Final(last, frozenset(unknown))})
    return found.silent, found.told


class TestWhole:
    """Nothing is wrong."""

    def test_all_in_order_is_no_fault(self) -> None:
        """Events that come one after the other up to the last one leave nothing to say."""
        ledger = stream()

        assert feed(ledger, 1, 2, 3) == [None] * 3
        assert lost(ledger, 3) == (0, 0)
        assert not ledger.is_behind({(0, "a"): Final(3)})

    def test_a_stream_that_came_later_is_owed_what_comes_after(self) -> None:
        """Its first event is where it begins; what was published before that is nobody's loss."""
        ledger = stream(from_start=False)

        assert feed(ledger, 7, 8) == [None] * 2
        assert lost(ledger, 8) == (0, 0)

    def test_an_event_of_which_nobody_knows_may_come_or_not(self) -> None:
        """A publish that was not answered with success is no loss if it does not come, and no fault if it does."""
        ledger = stream()
        feed(ledger, 1, 2, 4)

        assert lost(ledger, 4, 2, 3) == (0, 0)

    def test_sources_and_topics_count_for_themselves(self) -> None:
        """Two sources in a topic, or two topics, have numbers of their own, and come in any order to each other."""
        ledger = stream("a", "b")

        assert [ledger.received(*each) for each in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2))] == [None] * 4


class TestFaults:
    """What a stream got wrong."""

    def test_a_hole_is_a_loss(self) -> None:
        """What was skipped and never came is lost, and named."""
        ledger = stream()
        feed(ledger, 1, 4, 5)

        assert lost(ledger, 5) == (2, 0)
        assert ledger.losses({(0, "a"): Final(5)}).examples == ["stream 0.0, topic a, source 0: events 2 to 3"]

    def test_what_is_missing_at_the_end_is_a_loss(self) -> None:
        """The last events are owed like all others, although none comes after them to show the hole."""
        ledger = stream()
        feed(ledger, 1)

        assert ledger.is_behind({(0, "a"): Final(3)})
        assert lost(ledger, 3) == (2, 0)

    def test_a_stream_that_was_there_and_got_nothing_lost_all(self) -> None:
        """Silence is a loss where there was something to say; a later stream is owed nothing that it never heard of."""
        assert lost(stream(), 3) == (3, 0)
        assert lost(stream(from_start=False), 3) == (0, 0)

    def test_a_mark_says_from_where_on(self) -> None:
        """Who has been told that number 5 comes next is owed 5, even if the first that comes is 6."""
        ledger = stream(from_start=False)
        ledger.marked(0, "a", 5)
        feed(ledger, 6)

        assert lost(ledger, 6) == (1, 0)

    def test_twice_is_a_duplicate(self) -> None:
        """The same number again is a duplicate, however long ago the first one was."""
        assert feed(stream(), 1, 2, 3, 1, 3) == [None, None, None, "duplicate", "duplicate"]

    def test_late_is_disorder_and_no_loss(self) -> None:
        """What comes after a later one of its source is out of order; it did come, so it is not lost, and again is twice."""
        ledger = stream()

        assert feed(ledger, 1, 5, 3, 2, 3) == [None, None, "disorder", "disorder", "duplicate"]
        assert lost(ledger, 5) == (1, 0)

    def test_a_topic_that_was_not_asked_for_is_misdelivered(self) -> None:
        """A stream of one topic must not get another's events."""
        assert feed(stream("a"), 1, topic="b") == ["misdelivered"]


class TestTold:
    """The server has announced a loss."""

    def test_a_hole_behind_a_gap_is_told(self) -> None:
        """What a gap event announced is counted apart; the next hole is silent again."""
        ledger = stream()
        feed(ledger, 1)
        ledger.gap("a")
        feed(ledger, 4, 6)

        assert lost(ledger, 6) == (1, 2)

    def test_a_gap_of_another_topic_excuses_nothing(self) -> None:
        """A gap names its topic; without a name it stands for all of them."""
        named, nameless = stream("a", "b"), stream("a", "b")
        for ledger, topic in ((named, "b"), (nameless, None)):
            feed(ledger, 1)
            ledger.gap(topic)
            feed(ledger, 3)

        assert lost(named, 3) == (1, 0)
        assert lost(nameless, 3) == (0, 1)

    def test_a_gap_at_the_end_is_told(self) -> None:
        """If nothing follows the gap, what is missing is what it announced."""
        ledger = stream()
        feed(ledger, 1)
        ledger.gap("a")

        assert lost(ledger, 3) == (0, 2)


class TestLeaving:
    """Streams that end on purpose."""

    def test_who_has_left_is_owed_no_more(self) -> None:
        """What came after its last event is not lost; what was skipped before is."""
        ledger = stream()
        feed(ledger, 1, 3)
        ledger.is_closed = True

        assert not ledger.is_behind({(0, "a"): Final(9)})
        assert lost(ledger, 9) == (1, 0)

    def test_it_is_ready_when_each_topic_has_been_heard(self) -> None:
        """A stream is known to be subscribed when something has come of all its topics."""
        ledger = stream("a", "b")
        ledger.marked(0, "a", 1)
        half = ledger.is_ready
        feed(ledger, 1, topic="b")

        assert (half, ledger.is_ready) == (False, True)


@settings(deadline=None)
@given(st.permutations(range(1, 30)), st.sets(st.integers(1, 29)))
def test_whatever_the_order_each_number_is_counted_once(order: list[int], never: set[int]) -> None:
    """However events are mixed, what came is no loss, what never came is one, and nothing is taken for a duplicate."""
    ledger = stream()
    faults = feed(ledger, *(number for number in order if number not in never))

    assert "duplicate" not in faults
    assert lost(ledger, 29) == (len(never), 0)
