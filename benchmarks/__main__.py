"""Run the benchmarks, all or by name, and print their tables: ``python -m benchmarks [NAME ...] [--quick] [--write]``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from .effort import Effort, chosen, options
from .harness import FOLDER, BenchmarkError
from .report import Report, as_markdown, as_text, header

#: In the order of the page. Each is a module here with ``run(effort) -> Report``.
NAMES = (
    "fanout",
    "io_uring",
    "latency",
    "memory",
    "publish",
    "encoding",
    "redis_feed",
    "redis_stages",
    "redis_cost",
    "redis_publish",
    "redis_latency",
    "flask_sse",
    "through_nginx",
)
PAGE = FOLDER.parent / "docs" / "benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Returns 1 if a full run missed a bar, 2 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}, too; for a run of all")
    options(parser)
    arguments = parser.parse_args(argv)
    effort = chosen(arguments)
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    names = [name for name in NAMES if name in arguments.names or not arguments.names]
    if arguments.write and (effort.quick or names != list(NAMES)):
        parser.error("--write needs a full run of all benchmarks: the page is of one run")
    # So that servers are stopped on TERM as they are on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    facts = [("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")), *header()]
    print("\n".join(f"{name}: {value}" for name, value in facts), end="\n\n", flush=True)
    reports: list[Report] = []
    cores = os.sched_getaffinity(0)
    for name in names:
        run: Callable[[Effort], Report] = importlib.import_module(f"benchmarks.{name}").run
        try:
            reports.append(run(effort))
        except BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        finally:
            os.sched_setaffinity(0, cores)
        print(as_text(reports[-1]), flush=True)
    if arguments.write:
        PAGE.write_text(as_markdown(reports, facts), encoding="utf-8")
    missed = sum(not judgement.met for report in reports for judgement in report.judgements)
    if effort.quick:
        print("Everything runs. A quick run's figures mean nothing.")
        return 0
    print(f"{missed} bars missed." if missed else "Every bar met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
