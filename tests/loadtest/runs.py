"""Runs of the load generator as a person starts them, in a process of their own: locust changes Python's sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: Only reached when something hangs: every wait of a run is bounded.
PATIENCE = 300.0
#: What a slow machine must not decide: how much of a rate there was, and for how long one waits.
LENIENT = ("--min-published", "0", "--settle", "90", "--ready-timeout", "90")


class Run(NamedTuple):
    """A run that has ended."""

    code: int
    printed: str
    #: The folder of the report.
    folder: Path
    #: report.json.
    data: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """The counters of the report."""
        counts: dict[str, int] = self.data["counts"]
        return counts


def run(folder: Path, scenario: str, host: str, *options: str) -> Run:
    """Run a scenario to its end; the report goes into ``folder``."""
    command = [sys.executable, "-m", "loadtest", scenario, "--host", host, "--out", str(folder), *LENIENT, *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        printed, _ = process.communicate(timeout=PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    report = folder / "report.json"
    data = json.loads(report.read_text()) if report.exists() else {}
    return Run(process.returncode, printed, folder, data)
