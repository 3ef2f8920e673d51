"""Half an hour of everything at once. ``SSE_KIT_SOAK_SECONDS`` is how long, ``SSE_KIT_SOAK_WRITE=1`` writes docs/soak.md."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.plot import Line, timeline
from benchmarks.report import header, markdown_table
from tests.faults.audience import Audience
from tests.faults.fleet import Fleet
from tests.faults.publishers import Publishers
from tests.faults.scenario import TOPICS, Scenario, Verdict, plans
from tests.nginx_server import Nginx
from tests.redisserver import RedisServer, redis_server

from .samples import Sampler, growth, what_grows

# Read at once: a test of its own has no such variables.
SECONDS = float(os.environ.get("SSE_KIT_SOAK_SECONDS", "1800"))
WRITE = os.environ.get("SSE_KIT_SOAK_WRITE") == "1"
DOCS = Path(__file__).parents[2] / "docs"
STREAMS, RATE = 150, 40.0
#: A disturbance begins so often.
EVERY_SECONDS = 15.0
#: Reached early, so that history is no reason to grow; and far more than a stream is ever behind.
HISTORY = {"*": {"history_events": 500}}
#: The master whose workers are never restarted: a leak is seen there. The other's come and go.
STEADY, CHANGING = 0, 1
SETTLE_SECONDS = 60.0


class Soak:
    """What runs, and what is done to it."""

    def __init__(self, scenario: Scenario, redis: RedisServer, nginx: Nginx, sampler: Sampler) -> None:
        self.scenario, self.redis, self.nginx, self.sampler = scenario, redis, nginx, sampler
        self.done: Counter[str] = Counter()
        #: When, in seconds since the sampler began.
        self.marks: list[float] = []
        self._chance = random.Random(1)

    def disturb(self, seconds: float) -> None:
        """Do one thing after another, until so many seconds have passed."""
        until = time.monotonic() + seconds
        deeds: list[Callable[[], object]] = [
            self.cut_streams,
            self.kill_worker,
            self.reload_nginx,
            self.restart_redis,
            self.recycle_workers,
            self.stop_redis_for_a_moment,
        ]
        while time.monotonic() < until:
            for deed in deeds:
                began = time.monotonic()
                self.marks.append(began - self.sampler.began)
                deed()
                self.done[deed.__name__.replace("_", " ")] += 1
                time.sleep(max(0.0, min(EVERY_SECONDS - (time.monotonic() - began), until - time.monotonic())))
                if time.monotonic() >= until:
                    return

    def cut_streams(self) -> None:
        """A third of the clients lose their connections, and come back."""
        for stream in self.scenario.audience.streams[self._chance.randrange(3) :: 3]:
            stream.cut()

    def kill_worker(self) -> None:
        """A worker dies without a word."""
        self.scenario.fleet.kill_worker(CHANGING)

    def recycle_workers(self) -> None:
        """All workers of a master are replaced by new ones."""
        self.scenario.fleet.reload(CHANGING)

    def reload_nginx(self) -> None:
        """nginx takes its configuration anew; its old workers end their streams."""
        self.nginx.signal(signal.SIGHUP)

    def restart_redis(self) -> None:
        """Redis dies, and comes back with what it had answered."""
        self.redis.kill()
        time.sleep(self._chance.uniform(0.0, 2.0))
        self.redis.start()

    def stop_redis_for_a_moment(self) -> None:
        """Redis says nothing for some seconds."""
        self.redis.pause()
        time.sleep(self._chance.uniform(0.5, 5.0))
        self.redis.resume()


@contextmanager
def running(folder: Path) -> Iterator[Soak]:
    """Redis, two masters with two workers each, nginx in front of both, streams through nginx, publishers beside it."""
    with redis_server(folder, aof=True) as redis, Fleet(redis.url, topics=HISTORY) as fleet:
        # One upstream is rendered by the fixture; both masters are one service.
        first, second = (f"unix:{path}" for path in fleet.addresses)
        with (
            Nginx(
                first, replace=("site/upstream.conf", f"server {first}", f"server {second};\nserver {first}")
            ) as nginx,
            Audience([f"127.0.0.1:{nginx.port}"], plans(STREAMS)) as audience,
        ):
            audience.wait_until_open()
            groups = {
                "workers that stay": lambda: fleet.workers(STEADY),
                "nginx": lambda: [nginx.pid, *children(nginx.pid)],
                "Redis": lambda: [redis.pid] if redis.is_running else [],
            }
            with Publishers(fleet.addresses, TOPICS, rate=RATE) as publishers, Sampler(groups) as sampler:
                publishers.wait_for(int(RATE))
                yield Soak(Scenario(fleet, audience, publishers), redis, nginx, sampler)


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.soak
def test_nothing_is_lost_and_nothing_grows(tmp_path: Path) -> None:
    """Streams come and go, workers and Redis restart, nginx reloads: no event is lost or comes twice, and nothing grows."""
    with running(tmp_path) as soak:
        soak.disturb(SECONDS)
        verdict = soak.scenario.finish(settle=SETTLE_SECONDS)
    if WRITE:
        write(soak, verdict)
    verdict.check()
    # Whenever workers of the other master start anew, streams go from one master to the other and back.
    assert what_grows(soak.sampler.samples, descriptors=STREAMS // 6) == []
    assert verdict.gaps == 0


def write(soak: Soak, verdict: Verdict) -> None:
    """Write docs/soak.md and its plots."""
    plots = {
        "memory": ("MB", lambda sample: sample.bytes / 1e6),
        "descriptors": ("open files", lambda sample: float(sample.descriptors)),
    }
    rows = [["", "memory, middle", "end", "open files, middle", "end"]]
    for name, samples in soak.sampler.samples.items():
        memory, files = (growth(samples, value) for _, value in plots.values())
        rows.append([name, *(f"{each:.1f} MB" for each in memory), *(f"{each:.0f}" for each in files)])
    findings = Counter(finding.kind for finding in verdict.findings)
    lines = [
        "# Soak",
        "",
        "Generated by `SSE_KIT_SOAK_WRITE=1 make test-soak`; do not edit. The run is `tests/soak/test_soak.py`.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M UTC}",
        *(f"- {name}: {value}" for name, value in header()),
        "",
        f"{SECONDS:.0f} seconds: Redis, two masters with two workers each, nginx in front of both, {STREAMS} streams of one or "
        f"three of {len(TOPICS)} topics through nginx, {RATE:g} events a second. Something happens every "
        f"{EVERY_SECONDS:g} seconds; clients come back as browsers do. At the end everything that was answered is compared "
        "with what each stream received.",
        "",
        *markdown_table([["disturbance", "times"], *([name, str(count)] for name, count in soak.done.items())]),
        "",
        f"{verdict.events:,} events, {verdict.deliveries:,} received, {verdict.disconnects.total():,} connections that ended "
        f"and came back. **Lost, twice, out of order, altered: {sum(findings.values())}**"
        + (f" ({dict(findings)})" if findings else "")
        + f"; streams behind at the end: {len(verdict.behind)}; gaps told: {verdict.gaps}.",
        "",
        "What is held in the middle fifth and in the last fifth of the run (medians):",
        "",
        *markdown_table(rows),
        "",
    ]
    for name, (unit, value) in plots.items():
        drawn = [
            Line(group, [(each.seconds, value(each)) for each in samples])
            for group, samples in soak.sampler.samples.items()
        ]
        (DOCS / "images" / f"soak-{name}.svg").write_text(timeline(name, unit, drawn, soak.marks), encoding="utf-8")
        lines += [f"![{name.capitalize()} over time](images/soak-{name}.svg)", ""]
    (DOCS / "soak.md").write_text("\n".join(lines), encoding="utf-8")
