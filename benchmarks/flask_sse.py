"""What does a delivery cost, beside flask-sse with the same Redis? Run: ``python -m benchmarks.flask_sse``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import redis

from .client import Load, Phase, Rounds, by_turns, load
from .effort import Effort, parse
from .harness import BenchmarkError, RedisServer, Server, gunicorn_server, kit_server, redis_server, step_aside
from .report import Judgement, Report, Table, as_text, judge_least

BURST = 20
#: By streams: how much less a delivery shall cost, server processes and Redis together, in bursts.
BARS = {100: 8, 1_000: 25}
QUICK_BARS = {10: 1}
CHANNEL = "sse"
SUBSCRIBE_SECONDS = 30.0


def run(effort: Effort) -> Report:
    """Measure both by turns, for each number of streams."""
    step_aside(effort.core)
    judgements: list[Judgement] = []
    rows = [["streams, phase", "sse-kit", "its Redis", "flask-sse", "its Redis", "ratio", "deliveries/s", "flask-sse"]]
    for streams, bar in (QUICK_BARS if effort.quick else BARS).items():
        flight, burst = measure(streams, effort)
        for name, rounds in (("one in flight", flight), (f"bursts of {BURST}", burst)):
            (ours, theirs), (our_redis, their_redis), (our_rate, their_rate) = (
                rounds.median(lambda phase: phase.cpu_us),
                rounds.median(lambda phase: phase.redis_us),
                rounds.median(lambda phase: phase.rate),
            )
            ratio = 1 / rounds.ratio(lambda phase: phase.cpu_us + phase.redis_us)
            what = f"{streams:,} streams, {name}"
            rows.append(
                [
                    what,
                    *(f"{each:.2f} us" for each in (ours, our_redis, theirs, their_redis)),
                    f"{ratio:.1f}",
                    *(f"{each:,.0f}" for each in (our_rate, their_rate)),
                ]
            )
        # Of the last, the bursts.
        judgements.append(judge_least(f"{what}: CPU a delivery, flask-sse's / ours, Redis included", ratio, bar))
    return Report(
        "What does a delivery cost, beside flask-sse with the same Redis?",
        f"Medians of {effort.rounds} rounds of {effort.seconds:g} s, each between two rounds of flask-sse; the ratio is "
        "flask-sse's CPU time to ours, Redis included. Both with one worker under gunicorn: ours is sse-kit serve, "
        "flask-sse has gevent's worker, as its documentation says, and views of one line each. Servers, Redis and client "
        f"share core {effort.core}, over {'TCP' if effort.tcp else 'a unix socket'}, so that deliveries a second are those of "
        "all of them together; events of 100 bytes published over HTTP. flask-sse keeps no history, has no ids and no "
        "keepalive, and holds a connection to Redis for each stream.",
        judgements,
        [Table("CPU time of one delivery", rows)],
    )


def measure(streams: int, effort: Effort) -> tuple[Rounds, Rounds]:
    """Return the rounds of one in flight and of bursts; the reference is flask-sse."""
    with (
        redis_server(effort) as redis,
        flask_server(effort, redis) as flask,
        kit_server(effort, redis) as kit,
        load(flask, streams, effort) as flask_load,
        load(kit, streams, effort) as kit_load,
    ):
        flask.settled(streams)

        def phase(of: Load, kind: str, parameter: int) -> Phase:
            return of.phase(kind, parameter, effort.seconds)

        flight = by_turns(lambda: phase(kit_load, "flight", 1), lambda: phase(flask_load, "flight", 1), effort.rounds)
        burst = by_turns(
            lambda: phase(kit_load, "burst", BURST), lambda: phase(flask_load, "burst", BURST), effort.rounds
        )
    return flight, burst


@contextlib.contextmanager
def flask_server(effort: Effort, server: RedisServer) -> Iterator[Server]:
    """Run ``children/flask_app.py`` under gunicorn with a worker of gevent."""
    # Of its 1,000 connections a worker would have none left for publishing; and it would wait 30 s for streams that never end.
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--workers", "1", "--worker-connections", "20000"]
    command += ["--no-control-socket", "--log-level", "warning", "--graceful-timeout", "1"]
    command += [f"benchmarks.children.flask_app:create({server.url!r})"]
    with gunicorn_server(command, "/healthz", (), effort, server) as flask:
        yield replace(flask, settled=partial(wait_until_subscribed, server))


def wait_until_subscribed(server: RedisServer, streams: int) -> None:
    """Return when flask-sse has subscribed for each of its streams, which it does after the head of the response."""
    deadline = time.monotonic() + SUBSCRIBE_SECONDS
    with redis.Redis.from_url(server.url, protocol=2) as client:
        while (subscribed := client.pubsub_numsub(CHANNEL)[0][1]) < streams:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"flask-sse has subscribed for {subscribed} of {streams} streams")
            time.sleep(0.05)


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
