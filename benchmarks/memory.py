"""What does an idle stream hold in memory, and what a quiet topic? Run: ``python -m benchmarks.memory``."""

from __future__ import annotations

import itertools
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jwt

from sse_core.fanout.engine import STREAM_BYTES

from .client import load
from .effort import Effort, parse
from .harness import FOLDER, TOPIC, BenchmarkError, Server, fetch, kit_server, step_aside
from .memory_of import rss_anon, slab
from .report import Report, Table, as_text, judge_most

STREAMS = 10_000
WARM_UP = 500
TOPICS = 10_000
LOOPS = (1, 2, 4, 8)
BAR = 256
BAR_KNOWN = 512
END_SECONDS = 30.0


class Bytes(NamedTuple):
    """What one stream takes."""

    #: User space.
    user: float
    #: The same of one of the second half.
    later: float
    kernel: float


def run(effort: Effort) -> Report:
    """Measure streams in a worker of the service, and topics in a process of their own."""
    step_aside(effort.core)
    streams, topics, warm_up = (40, 200, 20) if effort.quick else (STREAMS, TOPICS, WARM_UP)
    bare, shipped, known = zip(*(measure_kinds(streams, warm_up, effort) for _ in range(effort.rounds)), strict=True)
    by_loops = {loops: median(measure_topics(loops, topics) for _ in range(effort.rounds)) for loops in LOOPS}
    slope = (by_loops[LOOPS[-1]] - by_loops[LOOPS[0]]) / (LOOPS[-1] - LOOPS[0])
    user, least, most = (median(each.user for each in kind) for kind in (shipped, bare, known))
    return Report(
        "What does an idle stream hold in memory, and a quiet topic?",
        f"Medians of {effort.rounds} fresh processes. Streams: growth of the worker's resident anonymous memory (RssAnon) from "
        f"before {streams:,} streams to 1 s after, divided by their number; {warm_up} streams were opened and closed before, "
        "so that what Python and the allocator take once is there already; at most 128 connections wait for heads at once "
        "(with 512, the requests in flight leave 1.4 MB more behind, once). Kernel memory: growth of the whole machine's slab "
        "meanwhile, which includes the client's end of each connection and whatever else the machine did. With everything on: "
        "each stream came with a JSON Web Token of its own (subject, id, end) from an address of its own, so that it is "
        "counted for both, ends with its token, is found by a revocation, and its end is logged with subject and request id. "
        f"Topics: growth of RssAnon of a process with one hub for {topics:,} topics that were opened and never published to; "
        f"what a loop adds is the slope from {LOOPS[0]} to {LOOPS[-1]} loops, the rest is Python's share: the name and its "
        "entry.",
        [
            judge_most(f"{streams:,} idle streams: user-space bytes a stream", user, BAR, "{:.0f}"),
            judge_most("the same with everything on", most, BAR_KNOWN, "{:.0f}"),
        ],
        [
            Table(
                "One idle stream",
                [
                    ["", "bytes"],
                    ["user space, resident", f"{user:.0f}"],
                    ["the second half of the streams alone", f"{median(each.later for each in shipped):.0f}"],
                    ["of which the struct itself", str(STREAM_BYTES)],
                    ["kernel, both ends", f"{median(each.kernel for each in shipped):,.0f}"],
                ],
            ),
            Table(
                "What is known of it",
                [
                    ["", "bytes", "the second half"],
                    [
                        "no request id: its end is not logged",
                        f"{least:.0f}",
                        f"{median(each.later for each in bare):.0f}",
                    ],
                    ["as shipped, anonymous", f"{user:.0f}", f"{median(each.later for each in shipped):.0f}"],
                    [
                        "subject, address, token and its end",
                        f"{most:.0f}",
                        f"{median(each.later for each in known):.0f}",
                    ],
                ],
            ),
            Table(
                "One quiet topic",
                [
                    ["", "bytes"],
                    *([f"{loops} loops" if loops > 1 else "1 loop", f"{each:.0f}"] for loops, each in by_loops.items()),
                    ["a topic and loop", f"{slope:.0f}"],
                ],
            ),
        ],
    )


def measure_kinds(streams: int, warm_up: int, effort: Effort) -> tuple[Bytes, Bytes, Bytes]:
    """Measure streams of which nothing is known, those of the service as it is shipped, and those of which all is known."""
    key = secrets.token_hex(32)
    closed = {"SSE_KIT_JWT_KEYS": json.dumps({"benchmark": key}), "SSE_KIT_JWT_ALGORITHMS": '["HS256"]'}
    return (
        measure_streams(streams, warm_up, effort, {"SSE_KIT_LOG_STREAMS": "false"}),
        measure_streams(streams, warm_up, effort, {}),
        measure_streams(streams, warm_up, effort, closed, key),
    )


def measure_streams(
    streams: int, warm_up: int, effort: Effort, settings: Mapping[str, str], key: str | None = None
) -> Bytes:
    """Return what one stream takes. With ``key`` each has a token that is signed with it, and an address."""
    half = streams // 2
    settle = 0.1 if effort.quick else 1.0
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder, kit_server(effort, settings=settings) as kit:

        def heads(count: int) -> Path | None:
            if key is None:
                return None
            file = Path(folder) / "heads"
            file.write_text("".join(f"{head(next(numbers), key)}\n" for _ in range(count)))
            return file

        with load(kit, warm_up, effort, heads=heads(warm_up)):
            pass
        wait_until_closed(kit)
        before, kernel = rss_anon(kit.worker), slab()
        with load(kit, half, effort, heads=heads(half)) as first:
            first.phase("idle", 0, settle)
            between = rss_anon(kit.worker)
            with load(kit, streams - half, effort, heads=heads(streams - half)) as second:
                second.phase("idle", 0, settle)
                after = rss_anon(kit.worker)
                return Bytes(
                    (after - before) / streams, (after - between) / (streams - half), (slab() - kernel) / streams
                )


def head(number: int, key: str) -> str:
    """Return the header fields of a stream that somebody of whom all is known opens by way of a proxy."""
    claims = {
        "sub": f"user-{number:08}",
        "aud": "sse-kit",
        "exp": int(time.time()) + 3600 + number % 3600,
        "jti": secrets.token_urlsafe(12),
        "sse": {"subscribe": [TOPIC]},
    }
    token = jwt.encode(claims, key, "HS256", headers={"kid": "benchmark"})
    return f"Authorization: Bearer {token}|X-Forwarded-For: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def wait_until_closed(server: Server) -> None:
    """Return when the server has noticed that all its streams are gone."""
    deadline = time.monotonic() + END_SECONDS
    while '\nsse_kit_streams{namespace="default"} 0' not in fetch(server.address, "/metrics"):
        if time.monotonic() > deadline:
            raise BenchmarkError("streams that were closed are still open")
        time.sleep(0.05)


def measure_topics(loops: int, topics: int) -> float:
    """Return the bytes that one topic takes in a hub with so many loops."""
    command = [sys.executable, "-m", "benchmarks.children.topics", str(loops), str(topics)]
    told = subprocess.run(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, check=True).stdout
    found: float = json.loads(told)
    return found


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
