"""How many streams does one machine hold? Run: ``python -m benchmarks.capacity [--streams 100000] [--write]``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from .client import Load, load
from .effort import Effort, chosen, options
from .harness import FOLDER, TOPIC, BenchmarkError, Server, compiled, connect, cpu_ns, kit_server, redis_server
from .memory_of import rss_anon, slab
from .report import Report, Table, as_text, header, markdown_table

STREAMS, QUICK_STREAMS = 100_000, 40
#: What a process has open besides its streams, generously; the service keeps 2,256 of them for other than streams.
OTHER_FILES = 2_500
EVENTS = 5
IDLE_SECONDS = 20.0
WARM_UP = 100
PAYLOAD = 100
DOCUMENT = FOLDER.parent / "docs" / "capacity.md"


@dataclass(frozen=True)
class Found:
    """What was measured, of all servers together."""

    servers: int
    #: From the first connection of all to the last head.
    connect_seconds: float
    #: Resident anonymous memory of the workers, and slab of the whole machine: growth by the streams, in bytes.
    user: int
    kernel: int
    #: CPU time of all server processes while nothing was published, in seconds a second.
    idle_cpu: float
    #: For each event: until half of all streams had it, and until the last one had it, in milliseconds.
    reached: list[tuple[float, float]]


def measure(streams: int, effort: Effort) -> Found:
    """Spread so many streams over as many servers as their open files ask for, one Redis behind all, and measure."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - OTHER_FILES
    count = max(-(-streams // room), 2)
    cores = sorted(os.sched_getaffinity(0))
    shares = [streams // count + (number < streams % count) for number in range(count)]
    places = [replace(effort, core=cores[number % len(cores)]) for number in range(count)]
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(places[0]))
        servers = [stack.enter_context(kit_server(place, redis)) for place in places]
        warm_up(servers, places)
        # What the warm-up has closed is freed by then.
        time.sleep(0.1 if effort.quick else 2.0)
        before, kernel = sum(rss_anon(server.worker) for server in servers), slab()
        began = time.monotonic()
        clients = stack.enter_context(opened(servers, shares, places))
        connect_seconds = time.monotonic() - began
        time.sleep(0.1 if effort.quick else 2.0)
        user, kernel = sum(rss_anon(server.worker) for server in servers) - before, slab() - kernel
        pids = [pid for server in servers for pid in server.pids]
        seconds = 0.2 if effort.quick else IDLE_SECONDS
        cpu = cpu_ns(*pids)
        time.sleep(seconds)
        idle_cpu = (cpu_ns(*pids) - cpu) / 1e9 / seconds
        reached = [reach_all(servers[0], clients) for _ in range(EVENTS)]
        return Found(count, connect_seconds, user, kernel, idle_cpu, reached)


def warm_up(servers: Sequence[Server], places: Sequence[Effort]) -> None:
    """Open some streams and close them: what Python takes once is then there already."""
    with opened(servers, [4 if places[0].quick else WARM_UP] * len(servers), places):
        pass


@contextlib.contextmanager
def opened(servers: Sequence[Server], shares: Sequence[int], places: Sequence[Effort]) -> Iterator[list[Load]]:
    """Open all streams, those of each server by a client process of its own, all clients at once."""
    # Once, or all of them would at the same time.
    compiled("load")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(servers)) as pool:
        pending = [pool.submit(_enter, *each) for each in zip(servers, shares, places, strict=True)]
        clients = []
        failed: Exception | None = None
        for each in pending:
            try:
                context, client = each.result()
            except Exception as error:
                failed = error
                continue
            stack.push(context)
            clients.append(client)
        if failed is not None:
            raise failed
        yield clients


def _enter(server: Server, share: int, place: Effort) -> tuple[contextlib.AbstractContextManager[Load], Load]:
    context = load(server, share, place)
    return context, context.__enter__()


def reach_all(server: Server, clients: Sequence[Load]) -> tuple[float, float]:
    """Publish one event at a server; return when half of the streams of all servers had it, and when the last one had it."""
    numbers = {client.listen(1) for client in clients}
    if len(numbers) != 1:
        raise BenchmarkError("the clients do not agree on the event's number")
    stamp = f"#{numbers.pop() - 1:010}{time.monotonic_ns():019}"
    body = json.dumps({"topic": TOPIC, "data": stamp.rjust(PAYLOAD, ".")}).encode()
    head = f"POST /publish HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server.address) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise BenchmarkError(f"the event was not taken: {answer[:200]!r}")
    halves, lasts = zip(*(client.heard() for client in clients), strict=True)
    return median(halves) / 1000, max(lasts) / 1000


def run(streams: int, effort: Effort) -> Report:
    """Measure once: as many streams as the machine holds are not opened in rounds."""
    found = measure(streams, effort)
    halves, lasts = zip(*found.reached, strict=True)
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    rows = [
        ["", f"{streams:,} streams"],
        ["servers, each with its one worker and one loop", str(found.servers)],
        ["opened in", f"{found.connect_seconds:.1f} s"],
        ["streams opened a second", f"{streams / found.connect_seconds:,.0f}"],
        ["memory of the workers for a stream", f"{found.user / streams:,.0f} bytes"],
        ["kernel memory for a stream, both ends", f"{found.kernel / streams:,.0f} bytes"],
        ["CPU while nothing is published, all servers", f"{100 * found.idle_cpu:.1f} % of a core"],
        ["one event: half of the streams have it after", f"{median(halves):.1f} ms"],
        ["the last one", f"{median(lasts):.1f} ms, at most {max(lasts):.1f} ms"],
    ]
    return Report(
        "How many streams does one machine hold?",
        f"{streams:,} streams of one topic, spread evenly over servers of one worker each, joined by one Redis. A process may "
        f"have {room:,} files open here, of which a stream is one, so the number of servers is what that asks for. Each server "
        f"has a client process with its streams, on the same core; servers and Redis are spread over all cores. Servers listen "
        f"on {'TCP' if effort.tcp else 'unix sockets'}. Memory is the growth of the workers' RssAnon and of the machine's "
        f"slab, 2 s after the last head, {WARM_UP} streams for each server having been opened and closed before. Then "
        f"{EVENTS} events, one after the other, are published over HTTP at the first server; the time is from before the "
        "request to the last stream's bytes in its client, so it has clients and servers sharing cores in it.",
        [],
        [Table("One run", rows)],
    )


def as_document(report: Report, facts: Sequence[tuple[str, str]]) -> str:
    """Return docs/capacity.md."""
    lines = ["# Capacity", "", "Generated by `make bench-capacity`; do not edit.", ""]
    lines += [f"- {name}: {value}" for name, value in facts]
    lines += ["", f"## {report.question}", "", report.method, ""]
    for table in report.tables:
        lines += [*markdown_table(table.rows), ""]
    lines += [
        "What this does not show: clients on other machines, whose packets cost more than those of a unix socket; nginx,",
        "which has two files open for each stream; and streams that come and go.",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, and with ``--write`` put it into the documents. 2 if there are no figures to write."""
    parser = argparse.ArgumentParser(description=__doc__)
    options(parser)
    parser.add_argument("--streams", type=int, help=f"how many (default {STREAMS:,})")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(FOLDER.parent)}")
    arguments = parser.parse_args(argv)
    effort = chosen(arguments)
    if arguments.write and effort.quick:
        print("figures of a quick run mean nothing and are not written", file=sys.stderr)
        return 2
    facts = [("date", f"{datetime.now(UTC):%Y-%m-%d}"), *header()]
    report = run(arguments.streams or (QUICK_STREAMS if effort.quick else STREAMS), effort)
    print(as_text(report))
    if arguments.write:
        DOCUMENT.write_text(as_document(report, facts), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
