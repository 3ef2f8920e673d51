"""A generator as a topic: what is published, how it ends, when it is closed, and that it waits for who listens."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sse_core import (
    BackplaneError,
    BusyError,
    ConfigurationError,
    Event,
    FailedError,
    Hub,
    HubClosedError,
    MemoryBackplane,
    Receipt,
    StoppedError,
    TopicOptions,
)
from tests.fanout.harness import TIMEOUT, eventually
from tests.wsgi_client import Client


def end(events: list[Event]) -> tuple[str | None, dict[str, Any]]:
    """The name and the data of the last event."""
    return events[-1].event, json.loads(events[-1].data or "")


def everything(hub: Hub, topic: str) -> list[Event]:
    return Client(hub.subscribe(topic)).to_end()


class Endless:
    """A source that yields when it is told to, and knows whether it was closed."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()
        self.count = 0

    def __call__(self) -> Iterator[str]:
        try:
            while True:
                assert self.go.acquire(timeout=TIMEOUT)
                self.count += 1
                yield f"item {self.count}"
        finally:
            self.closed.set()

    def release(self, count: int = 1) -> None:
        self.go.release(count)


class TestEnd:
    def test_what_is_yielded_arrives_in_order_and_then_the_end(self, hub: Hub) -> None:
        """Who subscribes gets every item from the first on, then `done`, and the stream is closed."""
        producer = hub.produce(f"token {number}" for number in range(100))
        events = everything(hub, producer.topic)

        assert [event.data for event in events[:-1]] == [f"token {number}" for number in range(100)]
        assert end(events) == ("done", {"reason": "finished"})
        assert producer.wait(TIMEOUT)
        assert not producer.running

    def test_what_the_generator_returns_is_told_at_the_end(self, hub: Hub) -> None:
        """A dict that the generator returns is part of `done`: usage, a result, whatever it has found out."""

        def generator() -> Iterator[str]:
            yield "x"
            return {"usage": {"tokens": 1}}

        assert end(everything(hub, hub.produce(generator).topic)) == (
            "done",
            {"reason": "finished", "usage": {"tokens": 1}},
        )

    @pytest.mark.parametrize("name", ["done", "failed"])
    def test_a_generator_may_end_itself(self, hub: Hub, name: str) -> None:
        """An item named `done` or `failed` is the end; what the generator would have yielded after it is not asked for."""
        source = iter([{"data": "x"}, {"event": name, "data": {"mine": 1}}, {"data": "never"}])
        events = everything(hub, hub.produce(source).topic)

        assert end(events) == (name, {"mine": 1})
        assert [event.data for event in events[:-1]] == ["x"]
        assert next(source) == {"data": "never"}

    def test_an_error_is_told_without_its_words(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        """A generator that raises ends in `failed`; what it raised is in our log and not on the wire."""

        def generator() -> Iterator[str]:
            yield "x"
            raise ValueError("password=secret")

        events = everything(hub, hub.produce(generator).topic)

        assert end(events) == ("failed", {"reason": "error", "message": "The stream failed."})
        assert "secret" not in str(events)
        assert "password=secret" in caplog.text
        eventually(lambda: hub.stats()["producers_failed"] == 1)

    def test_an_exit_is_an_error_too(self, hub: Hub) -> None:
        """A generator that calls sys.exit ends its own run, and not in silence."""

        def generator() -> Iterator[str]:
            yield "x"
            raise SystemExit(1)

        assert end(everything(hub, hub.produce(generator).topic))[0] == "failed"

    def test_an_error_that_is_meant_for_them_is_told(self, hub: Hub) -> None:
        """`FailedError` says reason, message and more to who listens."""

        def generator() -> Iterator[str]:
            raise FailedError("The model is overloaded.", reason="upstream", retry_after=3)
            yield "never"

        assert end(everything(hub, hub.produce(generator).topic)) == (
            "failed",
            {"reason": "upstream", "message": "The model is overloaded.", "retry_after": 3},
        )

    def test_an_item_that_is_no_event_ends_the_stream(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        """What cannot be put on the wire is never cleaned: the run fails, and the log says which field and why."""
        events = everything(hub, hub.produce(iter([{"data": "x", "event": "a\nb"}])).topic)

        assert end(events)[0] == "failed"
        assert "event: " in caplog.text

    def test_a_source_that_cannot_begin_has_failed(self, hub: Hub) -> None:
        """An error of the function that makes the generator is one of the run, not of who asked for it."""
        assert end(everything(hub, hub.produce(lambda: 1 / 0).topic))[0] == "failed"  # type: ignore[arg-type,return-value]

    @pytest.mark.parametrize(
        "error",
        [
            FailedError("x", detail=object()),
            FailedError("x", detail="x" * 300_000),
            StoppedError("a run that this one listens to"),
            HubClosedError("another hub"),
            GeneratorExit(),
        ],
        ids=repr,
    )
    def test_whatever_is_raised_is_an_end(self, hub: Hub, error: BaseException) -> None:
        """No error of a generator leaves those who listen waiting: not one that cannot be told, nor one like ours."""

        def generator() -> Iterator[str]:
            raise error
            yield "never"

        name, told = end(everything(hub, hub.produce(generator).topic))
        assert (name, told["reason"]) == ("failed", "error")

    def test_a_result_that_is_too_large_is_a_failure(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        """A last event that cannot be sent is told as a failure; the log says what was wrong with it."""

        def generator() -> Iterator[str]:
            return {"answer": "x" * 300_000}
            yield "never"

        name, told = end(everything(hub, hub.produce(generator).topic))
        assert (name, told["reason"]) == ("failed", "error")
        eventually(lambda: "max_event_bytes" in caplog.text)
        assert hub.stats()["producers_failed"] == 1

    @pytest.mark.parametrize("source", ["text", b"bytes", {"data": "x"}, 7, None])
    def test_what_is_no_generator_is_refused(self, hub: Hub, source: Any) -> None:
        """A str would be sent letter by letter, which nobody means."""
        with pytest.raises(ConfigurationError, match="source"):
            hub.produce(source)


class TestStop:
    def test_a_stop_ends_the_stream_and_closes_the_generator(self, hub: Hub) -> None:
        """Who listens gets `done` with the reason at once; the generator is closed where it stands."""
        source = Endless()
        producer = hub.produce(source)
        client = Client(hub.subscribe(producer.topic))
        source.release()
        assert client.read(1)[0].data == "item 1"
        assert hub.stop(producer.topic)

        assert end(client.to_end()) == ("done", {"reason": "stopped"})
        source.release()
        assert source.closed.wait(TIMEOUT)
        eventually(lambda: hub.stats()["producers_stopped"] == 1)
        assert not hub.stop(producer.topic)

    def test_abort_wakes_a_generator_that_waits(self, hub: Hub) -> None:
        """`abort` is called once when the run is over, so that a generator blocked in a read comes back."""
        woken = threading.Event()
        calls: list[str] = []
        closed = threading.Event()

        def generator() -> Iterator[str]:
            try:
                yield "x"
                assert woken.wait(TIMEOUT)
                raise ConnectionError("the socket was shut down")
            finally:
                closed.set()

        def abort() -> None:
            calls.append("abort")
            woken.set()

        producer = hub.produce(generator, abort=abort)
        Client(hub.subscribe(producer.topic)).read(1)
        producer.stop()

        assert closed.wait(TIMEOUT)
        eventually(lambda: hub.producing == 0)
        assert calls == ["abort"]
        assert end(everything(hub, producer.topic)) == ("done", {"reason": "stopped"})

    def test_a_run_that_ends_by_itself_is_not_aborted(self, hub: Hub) -> None:
        """`abort` is for what is still under way."""
        calls: list[str] = []
        producer = hub.produce(iter(["x"]), abort=lambda: calls.append("abort"))
        producer.wait(TIMEOUT)
        eventually(lambda: hub.producing == 0)
        hub.close()

        assert calls == []

    def test_a_failing_abort_harms_nobody(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        """An error in `abort` is logged, and the run is over all the same."""
        source = Endless()
        producer = hub.produce(source, abort=lambda: 1 / 0)
        producer.stop()
        eventually(lambda: "ZeroDivisionError" in caplog.text)
        source.release()

        assert source.closed.wait(TIMEOUT)

    def test_an_abort_that_blocks_holds_up_nobody(self, hub: Hub) -> None:
        """Other runs are looked after while an `abort` takes its time."""
        release, called = threading.Event(), threading.Event()
        sources = Endless(), Endless()
        for source, abort in zip(sources, (lambda: release.wait(TIMEOUT), called.set), strict=True):
            hub.produce(source, abort=abort).stop()

        assert called.wait(TIMEOUT / 2)
        release.set()
        for source in sources:
            source.release()
            assert source.closed.wait(TIMEOUT)

    def test_what_nobody_listens_to_is_given_up(self, hub: Hub) -> None:
        """Without a stream for `abandon_after` seconds the generator is closed, and who comes later is told."""
        source = Endless()
        producer = hub.produce(source, abandon_after=0.0)
        assert producer.wait(TIMEOUT)
        source.release()

        assert source.closed.wait(TIMEOUT)
        assert end(everything(hub, producer.topic))[1]["reason"] == "abandoned"
        eventually(lambda: hub.stats()["producers_abandoned"] == 1)

    def test_close_interrupts_what_is_under_way(self) -> None:
        """A hub that is closed ends its runs before its streams, so that nobody waits for more."""
        hub = Hub()
        source = Endless()
        producer = hub.produce(source)
        client = Client(hub.subscribe(producer.topic))
        source.release()
        client.read(1)
        source.release()
        hub.close()

        name, told = end(client.to_end())
        assert (name, told["reason"]) == ("failed", "interrupted")
        assert source.closed.wait(TIMEOUT)


class TestBackPressure:
    def test_a_generator_waits_for_a_slow_reader(self) -> None:
        """What nobody has been sent yet is bounded: a generator is asked for more only when the reader has caught up."""
        item = "x" * 10_000
        made = []

        def generator() -> Iterator[str]:
            for number in range(200):
                made.append(number)
                yield item

        with Hub(ahead_bytes=100_000) as hub:
            producer = hub.produce(generator, abandon_after=60)
            eventually(lambda: hub.stats()["producers_waited"] == 1)
            assert len(made) < 20
            client = Client(hub.subscribe(producer.topic))
            events = client.to_end()

        assert [event.data for event in events[:-1]] == [item] * 200
        assert end(events)[0] == "done"

    def test_a_generator_without_a_reader_waits_only_if_it_needs_one(self) -> None:
        """A run that goes on whether anybody listens or not is never held up by nobody."""
        with Hub(ahead_bytes=1000) as hub:
            producer = hub.produce(("x" * 1000 for _ in range(50)), abandon_after=None)

            assert producer.wait(TIMEOUT)
            assert len(everything(hub, producer.topic)) == 51

    def test_a_stop_reaches_a_generator_that_waits(self) -> None:
        """A run that waits for a reader can be stopped."""
        with Hub(ahead_bytes=1) as hub:
            producer = hub.produce(("x" for _ in range(50)), abandon_after=60)
            eventually(lambda: hub.stats()["producers_waited"] == 1)
            producer.stop()
            eventually(lambda: hub.producing == 0)


class Flaky(MemoryBackplane):
    """A backplane that is away for some attempts, and then has or has not published what it was given."""

    def __init__(self, errors: list[Exception], *, did: bool) -> None:
        super().__init__()
        self.errors = errors
        self.did = did
        self.receipts: dict[str, Receipt] = {}

    def publish(self, topic: str, event: Event, *, attempt: str | None = None) -> Receipt:
        if attempt is None:
            return super().publish(topic, event)
        receipt = self.receipts.get(attempt)
        if receipt is None and (self.did or not self.errors):
            receipt = self.receipts[attempt] = super().publish(topic, event)
        if self.errors:
            raise self.errors.pop()
        assert receipt is not None
        return receipt


@pytest.mark.parametrize("did", [True, False])
@pytest.mark.parametrize("error", [BackplaneError(0.01, "away"), BusyError(0.01)])
def test_a_backplane_that_is_away_costs_nothing(error: Exception, did: bool) -> None:
    """An event of unknown fate is attempted again: every item arrives once, in order."""
    with Hub(Flaky([error] * 3, did=did)) as hub:
        events = everything(hub, hub.produce(str(number) for number in range(5)).topic)

    assert [event.data for event in events[:-1]] == list("01234")


def test_items_take_no_key_s_place() -> None:
    """However much a run publishes, the keys that applications chose are remembered."""
    with Hub(MemoryBackplane(max_keys=2)) as hub:
        first = hub.publish("news", "x", id="mine")
        everything(hub, hub.produce(str(number) for number in range(10)).topic)

        assert hub.publish("news", "x", id="mine") == (first.id, True)
        assert hub.stats()["keys_evicted"] == 0


def test_an_item_s_id_is_a_key_within_its_run(hub: Hub) -> None:
    """Two runs that give the same ids do not take each other's events for their own; within one the second is dropped."""
    items = [{"data": "a", "id": "1"}, {"data": "b", "id": "1"}, {"data": "c", "id": "2"}]
    first, second = hub.produce(iter(items)), hub.produce(iter(items))

    for producer in (first, second):
        assert [event.data for event in everything(hub, producer.topic)[:-1]] == ["a", "c"]


def test_the_generator_has_the_context_of_who_asked(hub: Hub) -> None:
    """Context variables (a request's id, a trace) are those of the caller of `produce`."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")

    assert everything(hub, hub.produce(lambda: iter([variable.get()])).topic)[0].data == "mine"


def test_a_generator_that_cannot_be_closed_is_told_in_the_log(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a generator's own cleaning up changes nothing for who listens."""

    def generator() -> Iterator[str]:
        try:
            yield "x"
            yield {"event": "done", "data": {}}  # type: ignore[misc]
        finally:
            raise ValueError("in finally")

    with caplog.at_level(logging.ERROR):
        events = everything(hub, hub.produce(generator).topic)
        eventually(lambda: "in finally" in caplog.text)

    assert end(events) == ("done", {})


def test_a_generator_that_exits_when_it_is_closed_takes_no_place(hub: Hub) -> None:
    """Even an exit within a generator's own cleaning up leaves nothing of the run behind."""

    def generator() -> Iterator[Any]:
        try:
            yield {"event": "done", "data": {}}
        finally:
            raise SystemExit(1)

    assert end(everything(hub, hub.produce(generator).topic)) == ("done", {})
    eventually(lambda: hub.producing == 0)


def test_keys_of_runs_are_nobody_else_s() -> None:
    """Two runs of nearly the same name, and an application that uses a run's own keys, take no event from each other."""
    with Hub(topics={"mine": TopicOptions(ends=True)}) as hub:
        for key in ("run/mine#end", "mine#1", "mine#end"):
            hub.publish("news", "x", id=key)
        for topic in ("run/mine", "mine"):
            producer = hub.produce(iter([topic]), topic=topic)
            events = everything(hub, producer.topic)

            assert [event.data for event in events[:-1]] == [topic]
            assert end(events)[0] == "done"


def test_a_name_is_free_again_when_its_run_is_forgotten() -> None:
    """A run that has the name of one whose history is gone publishes all of its own events, its end too."""
    with Hub(topics={"run/*": TopicOptions(ends=True, history_age=0.001)}) as hub:
        assert hub.produce(iter(["first"]), topic="run/daily").wait(TIMEOUT)
        # The sweep of finite topics that have ended and aged.
        eventually(lambda: "run/daily" not in hub.topics())
        client = Client(hub.subscribe("run/daily"))
        next(client.stream)
        hub.produce(iter(["second"]), topic="run/daily")
        events = client.to_end()

        assert [event.data for event in events[:-1]] == ["second"]
        assert end(events)[0] == "done"
