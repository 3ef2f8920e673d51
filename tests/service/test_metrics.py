from __future__ import annotations

import itertools
import time
from pathlib import Path

from falcon.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from sse_core import Event, Hub, RedisBackplane
from sse_core.fanout.engine import is_gauge
from sse_kit.limits import LIMITS
from sse_kit.metrics import FAMILIES, HISTOGRAMS
from sse_kit.settings import Settings
from tests.application import app_of


def started(hub: Hub) -> Hub:
    """A hub counts once it has been used."""
    hub.publish("a", Event("x", id="key"))
    hub.publish("a", Event("x", id="key"))
    return hub


def scrape(hub: Hub, settings: Settings | None = None, **others: Hub) -> dict[str, dict[tuple[str, ...], float]]:
    """All samples: name -> label values -> value."""
    text = TestClient(app_of(hub, settings, **others)).simulate_get("/metrics").text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_every_counter_is_shown(hub: Hub) -> None:
    """Every counter of a hub is a metric, and every metric a counter that a hub has, in memory or on Redis."""
    shown = [key for family in FAMILIES for key in family.samples]
    # Nothing connects before its first use.
    joined = Hub(RedisBackplane("redis://nowhere.invalid"))

    assert len(shown) == len(set(shown))
    assert set(shown) == started(hub).stats().keys() | joined.stats().keys()


def test_kinds() -> None:
    """What can fall is a gauge; what only grows is a counter, and its name ends in _total."""
    kinds = {key: family.counter for family in FAMILIES for key in family.samples}

    own = {"draining", "keys", "producers", "backplane_up", "backplane_topics"}
    assert {key for key, counter in kinds.items() if not counter} - own == {key for key in kinds if is_gauge(key)}


def test_values(hub: Hub) -> None:
    """The values are those of the hub at that moment."""
    samples = scrape(started(hub))

    assert samples["sse_kit_events_published_total"] == {("default",): 1}
    assert samples["sse_kit_publish_duplicates_total"] == {("default",): 1}
    assert samples["sse_kit_idempotency_keys"] == {("default",): 1}
    assert samples["sse_kit_streams"] == {("default",): 0}
    reasons = ("trimmed", "restart", "unknown-id", "overflow")
    assert samples["sse_kit_gaps_total"] == {("default", reason): 0 for reason in reasons}
    assert "process_resident_memory_bytes" in samples


def test_runs(hub: Hub) -> None:
    """Runs are counted as they begin and, by how, as they end."""
    hub.produce(["a"]).wait()
    hub.produce(itertools.repeat("b")).stop()
    # Waits for both to be gone.
    hub.close()
    samples = scrape(hub)

    assert samples["sse_kit_producers_started_total"] == {("default",): 2}
    reasons = dict.fromkeys(("finished", "failed", "stopped", "abandoned", "interrupted"), 0)
    assert samples["sse_kit_producers_ended_total"] == {
        ("default", reason): count for reason, count in (reasons | {"finished": 1, "stopped": 1}).items()
    }


def test_each_namespace_has_its_own(hub: Hub) -> None:
    """Namespaces are told apart by a label, and each shows all of its counters."""
    with Hub() as other:
        other.publish("a", "x")
        other.publish("a", "x")
        samples = scrape(started(hub), other=other)

    assert samples["sse_kit_events_published_total"] == {("default",): 1, ("other",): 2}
    assert samples["sse_kit_streams_ended_total"].keys() >= {("default", "client"), ("other", "client")}


def test_unused_hub_shows_zeros(hub: Hub) -> None:
    """Before the first use everything is there and zero: a counter that appears late would look like a jump."""
    samples = scrape(hub)

    ours = [value for name, values in samples.items() if name.startswith("sse_kit_") for value in values.values()]
    # Of a histogram: what is below infinity, how many, and their sum.
    assert len(ours) == len(hub.stats()) + 3 * len(HISTOGRAMS) + len(LIMITS)
    assert set(ours) == {0}


def test_memory_has_no_backplane_that_is_down(hub: Hub) -> None:
    """Metrics of a backplane are there only with one, and then from the beginning; an alert on its absence stays silent."""
    joined = Hub(RedisBackplane("redis://nowhere.invalid"))

    assert "sse_kit_backplane_up" not in scrape(hub)
    assert scrape(joined)["sse_kit_backplane_up"] == {("default",): 0}


def test_logs_are_counted(hub: Hub, tmp_path: Path) -> None:
    """Each log has its counters, those that nobody has looked at yet too."""
    samples = scrape(hub, Settings(logs={"a": tmp_path / "a", "b": tmp_path / "b"}))

    for name in ("lines_total", "cut_lines_total", "rotations_total", "truncations_total", "held"):
        assert samples[f"sse_kit_log_{name}"] == {("a",): 0, ("b",): 0}


def test_times_are_histograms(hub: Hub) -> None:
    """Turns and latencies are histograms whose last bucket is their count, with a sum in seconds."""
    samples = scrape(started(hub))
    deadline = time.monotonic() + 30
    while not (count := samples["sse_kit_loop_turn_seconds_count"][("default",)]):
        assert time.monotonic() < deadline
        samples = scrape(hub)
    buckets = samples["sse_kit_loop_turn_seconds_bucket"]

    assert buckets[("+Inf", "default")] == count
    assert sorted(buckets.values()) == list(buckets.values())
    assert samples["sse_kit_loop_turn_seconds_sum"][("default",)] > 0
    # Nobody listens.
    assert samples["sse_kit_publish_to_socket_seconds_count"] == {("default",): 0}


def test_media_type(hub: Hub) -> None:
    """The answer says that it is Prometheus' text format, and is not cached."""
    result = TestClient(app_of(hub)).simulate_get("/metrics")

    assert result.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert result.headers["cache-control"] == "no-store"
