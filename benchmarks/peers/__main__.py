"""Measure other servers of event streams beside ours: ``python -m benchmarks.peers [NAME ...] [--quick] [--write]``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from ..effort import Effort, chosen, options
from ..harness import FOLDER, step_aside
from ..report import header
from .measure import RATES, Found, measure
from .page import as_markdown, as_text, plots
from .servers import PEERS

SIZES = tuple(RATES)
QUICK_SIZES = (10,)
ROUNDS, SECONDS = 3, 1.0
DOCS = FOLDER.parent / "docs"
PACKAGES = ("uvicorn", "uvloop", "httptools", "sse-starlette", "starlette", "django", "django-eventstream")
#: Debian's, by what dpkg calls them.
DEBIAN = ("nginx", "libnginx-mod-nchan", "pushpin", "redis-server")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for. Returns 1 if one of ours could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/peers.md and its plots; for a run of all")
    options(parser)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}")
    if arguments.write and (arguments.quick or arguments.names):
        parser.error("--write needs a full run of all: the page is of one run")
    effort = _effort(arguments)
    # So that servers are stopped on TERM as they are on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    facts = [("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")), *header(), ("peers", _versions())]
    print("\n".join(f"{name}: {value}" for name, value in facts), end="\n\n", flush=True)
    cores = os.sched_getaffinity(0)
    step_aside(effort.core)
    found: list[Found] = []
    try:
        for streams in QUICK_SIZES if effort.quick else SIZES:
            for peer in PEERS:
                if arguments.names and peer.name not in arguments.names:
                    continue
                found.append(measure(peer, streams, effort))
                print(as_text(found[-1]), flush=True)
    finally:
        os.sched_setaffinity(0, cores)
    if arguments.write:
        (DOCS / "peers.md").write_text(as_markdown(found, facts, effort), encoding="utf-8")
        for name, drawn in plots(found).items():
            (DOCS / "images" / name).write_text(drawn, encoding="utf-8")
    return 1 if any(each.peer.ours and each.missing for each in found) else 0


def _effort(arguments: argparse.Namespace) -> Effort:
    effort = chosen(arguments)
    if effort.quick:
        return effort
    return replace(effort, rounds=arguments.rounds or ROUNDS, seconds=arguments.seconds or SECONDS)


def _versions() -> str:
    found = [f"{name} {version(name)}" for name in PACKAGES]
    if shutil.which("dpkg-query"):
        asked = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *DEBIAN]
        found += subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
