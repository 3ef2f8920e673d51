"""Progress: how often it is told, and how it ends."""

from __future__ import annotations

import json
import time

import pytest

from sse_core import (
    BackplaneError,
    ConfigurationError,
    Event,
    EventError,
    FailedError,
    Hub,
    Progress,
    ProgressMeter,
    StoppedError,
)
from tests.wsgi_client import Client


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(event: Event | None) -> dict[str, object]:
    assert event is not None
    assert event.event == "progress"
    found: dict[str, object] = json.loads(event.data or "")
    return found


class TestMeter:
    def test_a_fast_loop_does_not_flood(self) -> None:
        """There is an event for the first update and then one an interval, whatever happens in between."""
        clock = Clock()
        meter = ProgressMeter(1000, interval=0.5, clock=clock)
        events = []
        for _ in range(1000):
            clock.now += 0.01
            events.append(meter.update())

        made = [event for event in events if event is not None]
        assert len(made) in (20, 21)
        assert told(made[0])["n"] == 1

    def test_it_tells_how_far_how_fast_and_how_long(self) -> None:
        """An event holds the count, the total, the time gone, the rate, and what is left of the time."""
        clock = Clock()
        meter = ProgressMeter(100, unit="B", clock=clock)
        clock.now += 2

        assert told(meter.update(25)) == {
            "n": 25, "total": 100, "unit": "B", "elapsed": 2, "rate": 12.5, "remaining": 6, "description": None,
        }  # fmt: skip

    def test_what_is_not_known_is_null(self) -> None:
        """Without a total nothing is said about the time that is left."""
        clock = Clock()
        meter = ProgressMeter(clock=clock)
        first = told(meter.event())
        clock.now += 1

        assert (first["rate"], first["remaining"], first["total"]) == (None, None, None)
        assert told(meter.update(3))["rate"] == 3

    def test_the_last_state_can_always_be_told(self) -> None:
        """`last` makes an event however young the one before is, and the meter knows whether that is needed."""
        meter = ProgressMeter(2, interval=3600)
        meter.update()
        assert meter.is_told
        assert meter.update() is None
        assert not meter.is_told

        assert told(meter.last())["n"] == 2
        assert meter.is_told

    def test_what_cannot_be_is_refused(self) -> None:
        """A negative total or interval is a mistake."""
        with pytest.raises(ConfigurationError, match="total"):
            ProgressMeter(-1)
        with pytest.raises(ConfigurationError, match="interval"):
            ProgressMeter(interval=-1)


class AwayRun:
    """A run whose backplane is away until the test says otherwise."""

    topic = "run/7"
    running = True

    def __init__(self) -> None:
        self.away = True
        self.patience: float | None = None
        self.published: list[Event] = []

    def publish(self, event: Event, *, patience: float | None = None) -> None:
        self.patience = patience
        if self.away:
            raise BackplaneError(1.0, "away")
        self.published.append(event)

    def end(self, event: Event, outcome: str) -> None:
        self.published.append(event)


class TestProgress:
    def test_a_block_is_a_topic_that_ends(self, hub: Hub) -> None:
        """What a with block counts is told to the end, and then comes `done`, with what was found."""
        with hub.progress(total=100, unit="files", interval=3600) as progress:
            client = Client(hub.subscribe(progress.topic))
            for _ in range(100):
                progress.update()
            progress.finish(found=7)
        events = client.to_end()

        assert [(event.event, json.loads(event.data or "").get("n")) for event in events] == [
            ("progress", 1),
            ("progress", 100),
            ("done", None),
        ]
        assert json.loads(events[-1].data or "") == {"reason": "finished", "found": 7}

    def test_a_block_that_raises_has_failed(self, hub: Hub) -> None:
        """An error ends the topic with `failed`; its own words are told only if they are meant for it."""
        with pytest.raises(ValueError, match="secret"), hub.progress() as first:
            raise ValueError("secret")
        with pytest.raises(FailedError), hub.progress() as second:
            raise FailedError("The disk is full.", reason="disk", free=0)

        failures = [json.loads(Client(hub.subscribe(each.topic)).to_end()[-1].data or "") for each in (first, second)]
        assert failures == [
            {"reason": "error", "message": "The job failed."},
            {"reason": "disk", "message": "The disk is full.", "free": 0},
        ]

    def test_a_stop_reaches_the_loop(self, hub: Hub) -> None:
        """Who counts is told by `StoppedError` that somebody has stopped it."""
        with hub.progress(total=10) as progress:
            progress.update()
            assert hub.stop(progress.topic)
            with pytest.raises(StoppedError):
                progress.update()

        assert json.loads(Client(hub.subscribe(progress.topic)).to_end()[-1].data or "") == {"reason": "stopped"}

    def test_state_can_be_set_and_described(self, hub: Hub) -> None:
        """A count, a total that becomes known later, and words are part of what is told."""
        with hub.progress(interval=0) as progress:
            progress.describe("reading")
            progress.set(5, total=10)
            assert (progress.n, progress.total) == (5, 10)
        events = Client(hub.subscribe(progress.topic)).to_end()

        states = [json.loads(event.data or "") for event in events[:-1]]
        assert [(each["description"], each["n"], each["total"]) for each in states] == [
            ("reading", 0, None),
            ("reading", 5, 10),
        ]

    def test_what_came_too_soon_is_told_later(self, hub: Hub) -> None:
        """A state that was too young for an event is told though nothing more happens, when runs are looked after."""
        with hub.progress(interval=0.05) as progress:
            client = Client(hub.subscribe(progress.topic))
            progress.update()
            progress.describe("the second one takes long")
            began = time.monotonic()
            while time.monotonic() - began < 0.05:
                time.sleep(0.01)
            # The end of another run is a reason to look after all.
            assert hub.produce(()).wait(10)
            told = [json.loads(event.data or "")["description"] for event in client.read(2)]
            client.leave()

        assert told == [None, "the second one takes long"]

    def test_work_does_not_wait_for_a_backplane_that_is_away(self) -> None:
        """What cannot be published now is left out, and the last state is told as soon as there is somebody to tell."""
        run = AwayRun()
        progress = Progress(run, ProgressMeter(2, interval=0))  # type: ignore[arg-type]
        progress.update()
        assert (run.published, run.patience) == ([], 0)
        run.away = False
        progress.finish()

        assert [event.event for event in run.published] == ["progress", "done"]
        assert json.loads(run.published[0].data or "")["n"] == 1

    def test_it_ends_though_its_last_state_cannot_be_told(self, hub: Hub) -> None:
        """Words that no client can be sent are refused, and do not keep the topic from its end."""
        with pytest.raises(EventError, match="surrogate"), hub.progress() as progress:
            progress.describe("\udc80")

        assert Client(hub.subscribe(progress.topic)).to_end()[-1].event == "failed"
        assert hub.producing == 0

    def test_it_takes_part_in_the_bound_on_runs(self, hub: Hub) -> None:
        """A progress is a run of its process until it ends, stopped or not."""
        with hub.progress() as progress:
            assert hub.producing == 1
        assert hub.producing == 0
        assert progress.topic.startswith("run/")
        assert progress.topic == "run/" + progress.run
