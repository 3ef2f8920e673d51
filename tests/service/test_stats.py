"""``server/stats`` and ``server/metric``: what each worker tells of itself."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sse_core import Event, EventParser, Hub
from sse_kit.hub import create_hubs
from sse_kit.namespaces import Namespaces
from sse_kit.settings import Settings
from sse_kit.stats import Sample, StatsPublisher, values
from tests.servers import running_service

BEAT = 0.02
WAIT = 20.0


class Counters:
    """What a process counts: one more with each look, and ``burst`` in between."""

    def __init__(self) -> None:
        self._looked = threading.Condition()
        self._looks = 0
        self._published = 0

    def __call__(self) -> dict[str, int]:
        with self._looked:
            self._looks += 1
            self._published += 1
            self._looked.notify_all()
            return {"streams": 2, "events_published": self._published, "events_delivered": 0, "bytes_sent": 0}

    def burst(self, count: int) -> None:
        """Count so many at once, and wait until that has been looked at."""
        with self._looked:
            self._published += count
            seen = self._looks
            assert self._looked.wait_for(lambda: self._looks > seen, WAIT)


@contextmanager
def started(hub: Hub, counters: Callable[[], dict[str, int]]) -> Iterator[StatsPublisher]:
    """A publisher at work."""
    publisher = StatsPublisher(hub, counters, Settings(stats_interval=BEAT))
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


def listen(hub: Hub, topic: str, count: int, *, last_event_id: str | None = None) -> list[Event]:
    """The next events of a topic."""
    parser, events = EventParser(), list[Event]()
    stream = hub.subscribe(topic, last_event_id=last_event_id)
    for chunk in stream:
        events += parser.feed(chunk)
        if len(events) >= count:
            break
    stream.close()
    return events[:count]


def test_values_are_rates() -> None:
    """A metric is what happened in the time between two looks, divided by that time."""
    last = Sample(10.0, 1.0, 5000, {"streams": 1, "events_published": 10, "events_delivered": 100, "bytes_sent": 1000})
    sample = Sample(
        12.0, 1.5, 6000, {"streams": 3, "events_published": 11, "events_delivered": 150, "bytes_sent": 1000}
    )

    assert values(last, sample) == {
        "streams": 3,
        "published_per_second": 0.5,
        "delivered_per_second": 25.0,
        "bytes_per_second": 0.0,
        "cpu_seconds_per_second": 0.25,
        "memory_bytes": 6000,
    }


def test_metric_event() -> None:
    """An event `metric` tells when, of which worker, and the values by name, all of them numbers."""
    with create_hubs(Settings())["default"] as hub, started(hub, Counters()):
        (event,) = listen(hub, "server/metric", 1)

    metric: dict[str, Any] = json.loads(event.data or "")
    assert event.event == "metric"
    assert metric.keys() == {"ts", "worker", "values"}
    assert metric["worker"].endswith(f":{os.getpid()}")
    assert metric["values"]["streams"] == 2
    assert metric["values"]["published_per_second"] > 0
    assert metric["values"]["memory_bytes"] > 1 << 20
    assert all(isinstance(value, int | float) for value in metric["values"].values())


def test_history_is_drawn_again() -> None:
    """Who comes later gets the metrics that were, each once and in order; of the counters only the newest."""
    with create_hubs(Settings())["default"] as hub, started(hub, Counters()):
        seen = listen(hub, "server/metric", 3)
        later = listen(hub, "server/metric", 4, last_event_id="0-0")
        newest = listen(hub, "server/stats", 1, last_event_id="0-0")

    assert [event.id for event in later[:3]] == [event.id for event in seen]
    assert newest[0].id is not None
    assert json.loads(newest[0].data or "")["time"] > json.loads(seen[-1].data or "")["ts"]


def test_one_look_for_both_topics(hub: Hub) -> None:
    """Both topics come from one source: the counters and the rates of a beat are of the same sample."""
    namespaces = Namespaces(Settings(stats_interval=BEAT), {"default": hub})
    try:
        sources = namespaces.find("default").sources
        sources.start(["server/stats", "server/metric"])
        stream = hub.subscribe(["server/stats", "server/metric"])
        parser, times = EventParser(), {"stats": list[float](), "metric": list[float]()}
        for chunk in stream:
            for event in parser.feed(chunk):
                data = json.loads(event.data or "")
                times[event.event or ""].append(data["time"] if event.event == "stats" else data["ts"])
            if len(times["metric"]) >= 3:
                break
        stream.close()
    finally:
        namespaces.close()

    assert times["metric"][:2] == [time for time in times["stats"] if time in times["metric"]][:2]


def test_rates_are_of_one_beat_after_silence(hub: Hub) -> None:
    """Counters are looked at while nobody listens too, so that the first rate after a silence is that of one beat."""
    counters = Counters()
    with started(hub, counters):
        listen(hub, "server/metric", 1)
        counters.burst(1_000_000_000)
        # The look that saw it may still be about to be published, to the stream below.
        counters.burst(0)
        (event,) = listen(hub, "server/metric", 1)

    assert json.loads(event.data or "")["values"]["published_per_second"] < 1_000_000


@pytest.mark.parametrize("topic", ["server/stats", "server/metric"])
def test_over_http(topic: str) -> None:
    """Each topic can be listened to alone, and its source starts with the first who does."""
    with running_service(stats_interval=0.1) as server, server.reader(f"/events?topic={topic}") as reader:
        first, second = reader.read(2)

    key = "time" if topic == "server/stats" else "ts"
    assert first.event == second.event == topic.removeprefix("server/")
    assert json.loads(second.data or "")[key] > json.loads(first.data or "")[key]
