"""`sse_core.contrib.tqdm` with the real tqdm: what is shown, what is told, and how it ends."""

from __future__ import annotations

import gc
import io
import json
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from tqdm.std import tqdm as plain_tqdm

from sse_core import ConfigurationError, ConflictError, EventError, FailedError, Hub, StoppedError
from sse_core.contrib.tqdm import tqdm, trange
from tests.wsgi_client import Client

INCOMPLETE = ("failed", "incomplete")
FINISHED = ("done", "finished")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        yield made
    left = list(plain_tqdm._instances)
    # One that is left over would move every later bar down.
    plain_tqdm._instances.clear()
    assert left == []


def told(hub: Hub, topic: str | None) -> tuple[list[dict[str, Any]], tuple[str | None, dict[str, Any]]]:
    """The states that a topic has told, and its last event."""
    assert topic is not None
    *states, last = Client(hub.subscribe(topic)).to_end()
    assert {event.event for event in states} == {"progress"}
    return [json.loads(event.data or "") for event in states], (last.event, json.loads(last.data or ""))


def ending(hub: Hub, topic: str | None) -> tuple[str | None, str]:
    name, data = told(hub, topic)[1]
    return name, data["reason"]


class TestBar:
    """What a bar shows and tells while it goes on."""

    def test_it_is_shown_as_usual_and_told(self, hub: Hub) -> None:
        """The terminal has the bar of tqdm, and the topic its states: first 0, last all, then `done`."""
        screen = io.StringIO()
        bar = tqdm(["a", "b", "c"], hub=hub, topic="run/import-7", file=screen, desc="Rows", unit="rows")
        assert list(bar) == ["a", "b", "c"]

        assert "Rows: 100%" in screen.getvalue()
        assert "3/3" in screen.getvalue()
        states, (name, data) = told(hub, "run/import-7")
        assert bar.topic == "run/import-7"
        assert (states[0]["n"], states[-1]["n"]) == (0, 3)
        assert {(state["total"], state["unit"]) for state in states} == {(3, "rows")}
        assert states[-1]["description"] == "Rows"
        assert (name, data) == ("done", {"reason": "finished"})

    def test_a_fast_loop_does_not_flood(self, hub: Hub) -> None:
        """However many steps there are, the topic has one event an interval, and the last state."""
        by_loop = trange(100_000, hub=hub, interval=3600, disable=None)
        for _ in by_loop:
            pass
        by_hand = tqdm(total=10_000, hub=hub, interval=3600, disable=None)
        for _ in range(10_000):
            by_hand.update()
        by_hand.close()

        assert [state["n"] for state in told(hub, by_loop.topic)[0]] == [0, 100_000]
        assert [state["n"] for state in told(hub, by_hand.topic)[0]] == [0, 10_000]

    def test_its_own_interval_counts_and_not_the_display_s(self, hub: Hub) -> None:
        """A bar that is drawn rarely, to keep a log short, is told as often as others."""
        screen = io.StringIO()
        bar = trange(5, hub=hub, interval=0, mininterval=3600, file=screen)
        drawn = len(screen.getvalue())
        for _ in bar:
            assert len(screen.getvalue()) == drawn

        assert [state["n"] for state in told(hub, bar.topic)[0]] == [0, 1, 2, 3, 4, 5]

    def test_what_stands_beside_the_bar_is_told(self, hub: Hub) -> None:
        """The description and the postfix are the words of the next state."""
        with tqdm(total=3, hub=hub, interval=0, disable=None) as bar:
            bar.set_description("Reading")
            bar.update()
            bar.set_postfix(loss=0.5)
            bar.update()
            bar.set_description_str("Na\udcefve")
            bar.update()
        descriptions = {state["n"]: state["description"] for state in told(hub, bar.topic)[0]}

        assert descriptions == {0: "Reading", 1: "Reading, loss=0.5", 2: "Na?ve, loss=0.5", 3: "Na?ve, loss=0.5"}

    def test_a_total_may_be_unknown_and_become_known(self, hub: Hub) -> None:
        """Without a total there is none in the states, until somebody sets it."""
        bar = tqdm(iter("abc"), hub=hub, interval=0, disable=None)
        for letter in bar:
            if letter == "b":
                bar.total = 3
        states, _ = told(hub, bar.topic)

        assert [(state["n"], state["total"]) for state in states] == [(0, None), (1, None), (2, 3), (3, 3)]
        assert ending(hub, bar.topic) == FINISHED

    def test_numbers_of_other_packages_are_told(self, hub: Hub) -> None:
        """A count that is neither an int nor a float, as numpy's are not, arrives as a number."""
        bar = tqdm(hub=hub, disable=None)
        bar.update(Fraction(5, 2))
        bar.close()

        assert told(hub, bar.topic)[0][-1]["n"] == 2.5

    def test_bars_within_bars_are_topics_of_their_own(self, hub: Hub) -> None:
        """A loop in a loop has its own topic each time, and the outer one goes on."""
        inner: list[str | None] = []
        outer = trange(2, hub=hub, disable=None)
        for _ in outer:
            within = trange(3, hub=hub, disable=None, leave=False)
            inner.append(within.topic)
            assert len(list(within)) == 3

        assert len({outer.topic, *inner}) == 3
        assert [told(hub, topic)[0][-1]["n"] for topic in (outer.topic, *inner)] == [2, 3, 3]

    def test_the_lock_of_all_bars_is_not_held_while_it_tells(self, hub: Hub) -> None:
        """Who refreshes a bar with tqdm's lock in hand, as its monitor does, neither publishes nor is stopped by it."""
        bar = tqdm(total=1, hub=hub, disable=None)
        assert hub.stop(bar.topic or "")
        with bar.get_lock():
            bar.refresh(nolock=True)
        with pytest.raises(StoppedError):
            bar.refresh()
        # The lock is one for all bars, and a thread may take it twice.
        other = threading.Thread(target=bar.clear, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
        bar.close()


class TestDisabled:
    """A bar that is off, and one that is only hidden."""

    def test_a_disabled_bar_is_no_topic(self, hub: Hub) -> None:
        """With `disable=True` items come through, and there is no hub to ask and nothing to tell."""
        with tqdm("abc", disable=True) as bar:
            assert list(bar) == ["a", "b", "c"]
            bar.update()
            bar.set_description("nobody reads it")
            assert bar.topic is None
        bar.finish()
        assert hub.stats()["producers_started"] == 0

    def test_a_bar_without_a_terminal_is_hidden_and_told(self, hub: Hub) -> None:
        """With `disable=None` a server's log stays clean, and the page has its bar."""
        screen = io.StringIO()
        bar = trange(3, hub=hub, disable=None, file=screen)
        assert len(list(bar)) == 3

        assert screen.getvalue() == ""
        assert told(hub, bar.topic)[0][-1]["n"] == 3

    def test_a_bar_on_a_terminal_is_shown(self, hub: Hub) -> None:
        """With `disable=None` who sits at a terminal sees it."""
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        list(trange(3, hub=hub, disable=None, file=screen))

        assert "3/3" in screen.getvalue()


def divide(bar: tqdm, by: int) -> None:
    """A loop whose body raises at the item `by`."""
    for i in bar:
        1 / (i - by)


class TestEnds:
    """How a topic ends is how the work did, as far as anybody can know."""

    def test_an_iterable_that_raises_has_failed(self, hub: Hub) -> None:
        """What went wrong is not told unless it is meant to be; the exception goes on to the caller."""

        def rows(error: Exception) -> Iterator[int]:
            yield 1
            raise error

        bar = tqdm(rows(ValueError("secret")), hub=hub, disable=None)
        with pytest.raises(ValueError, match="secret"):
            list(bar)
        told_why = tqdm(rows(FailedError("Row 2 has no name.", reason="input")), hub=hub, disable=None)
        with pytest.raises(FailedError):
            list(told_why)

        assert told(hub, bar.topic)[1] == ("failed", {"reason": "error", "message": "The job failed."})
        assert told(hub, told_why.topic)[1] == ("failed", {"reason": "input", "message": "Row 2 has no name."})

    def test_a_loop_that_is_left_early_is_incomplete(self, hub: Hub) -> None:
        """After a break and after an exception in its body a loop has not come to its end, and that is what is told."""
        broken = trange(10, hub=hub, disable=None)
        for i in broken:
            if i == 4:
                break
        raised = tqdm(iter(range(10)), hub=hub, disable=None)
        with pytest.raises(ZeroDivisionError):
            divide(raised, 4)

        assert told(hub, broken.topic)[1] == (
            "failed",
            {"reason": "incomplete", "message": "It ended early, at 4 of 10."},
        )
        assert told(hub, raised.topic)[1][1]["message"] == "It ended early, at 4."

    def test_a_block_decides(self, hub: Hub) -> None:
        """In a with block a break is no failure, an exception is one, and an explicit close ends nothing yet."""
        with tqdm(range(10), hub=hub, disable=None) as broken:
            for i in broken:
                if i == 4:
                    break
            assert hub.production(broken.topic or "") == "running"
        with tqdm(total=10, hub=hub, disable=None) as short:
            short.update(3)
            short.close()
        with pytest.raises(ZeroDivisionError), tqdm(range(10), hub=hub, disable=None) as raised:
            divide(raised, 4)
        with pytest.raises(FailedError), tqdm(range(10), hub=hub, disable=None) as told_why:
            raise FailedError("The disk is full.", reason="disk")

        assert ending(hub, broken.topic) == FINISHED
        assert [state["n"] for state in told(hub, broken.topic)[0]][-1] == 4
        assert ending(hub, short.topic) == FINISHED
        assert ending(hub, raised.topic) == ("failed", "error")
        assert ending(hub, told_why.topic) == ("failed", "disk")

    def test_a_bar_by_hand_is_complete_when_its_total_is_reached(self, hub: Hub) -> None:
        """`close` is `done` if all was counted, or nobody knows how much that is, and else `failed`."""
        endings = []
        for total, count in ((10, 10), (10, 12), (None, 3), (10, 9)):
            bar = tqdm(total=total, hub=hub, disable=None)
            bar.update(count)
            bar.close()
            bar.close()
            endings.append(ending(hub, bar.topic))

        assert endings == [FINISHED, FINISHED, FINISHED, INCOMPLETE]

    def test_a_result_can_be_told(self, hub: Hub) -> None:
        """`finish` is `done` with members of one's own, even before a break; what is no JSON is refused and ends nothing."""
        bar = trange(10, hub=hub, disable=None)
        for i in bar:
            if i == 4:
                with pytest.raises(EventError):
                    bar.finish(found={4})
                bar.finish(found=4)
                break

        assert told(hub, bar.topic)[1] == ("done", {"reason": "finished", "found": 4})

    def test_a_stop_reaches_the_loop(self, hub: Hub) -> None:
        """Who loops is told by `StoppedError`, and who listens that it was stopped."""
        bar = trange(1_000_000_000, hub=hub, interval=0, mininterval=0, disable=None)

        def stop(at: int) -> None:
            for i in bar:
                if i == at:
                    assert hub.stop(bar.topic or "")

        with pytest.raises(StoppedError):
            stop(5)
        assert bar.n < 100
        assert ending(hub, bar.topic) == ("done", "stopped")

    def test_a_bar_that_nobody_closed_is_ended(self, hub: Hub) -> None:
        """One that is garbage is told as incomplete: nobody waits for it for ever."""
        bar = tqdm(total=10, hub=hub, disable=None)
        client = Client(hub.subscribe(bar.topic or ""))
        bar.update(3)
        del bar
        gc.collect()

        assert json.loads(client.to_end()[-1].data or "")["reason"] == "incomplete"
        for thread in threading.enumerate():
            if thread.name == "sse-tqdm":
                thread.join()

    def test_a_hub_that_is_closed_stops_the_loop(self, hub: Hub) -> None:
        """Closing the hub ends what runs in its process: the loop hears of it as of a stop."""
        bar = trange(1_000_000_000, hub=hub, interval=0, mininterval=0, disable=None)
        steps = iter(bar)
        next(steps)
        hub.close()
        with pytest.raises(StoppedError):
            next(steps)


class TestRefusals:
    """What cannot be is said when the bar is made, and leaves no bar behind."""

    def test_a_bar_needs_a_hub(self) -> None:
        """Without a hub there is nowhere to tell anything."""
        with pytest.raises(TypeError, match="needs a hub"):
            tqdm("abc", file=io.StringIO())
        assert not plain_tqdm._instances

    def test_a_topic_is_produced_once_and_has_an_end(self, hub: Hub) -> None:
        """A topic that had a bar, and one that has no end, are refused."""
        list(tqdm("a", hub=hub, topic="run/once", disable=None))
        with pytest.raises(ConflictError):
            tqdm("a", hub=hub, topic="run/once", disable=None)
        with pytest.raises(ConfigurationError):
            tqdm("a", hub=hub, topic="news", disable=None)
        assert not plain_tqdm._instances
