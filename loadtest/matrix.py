"""``make load``: one short run of each scenario against a freshly started kit behind nginx, and a report of all of them.

The kit is what ``make run REDIS=1`` starts: nginx, two workers, their Redis; in a folder and on a port of its own. Everything
runs on one machine, so the generator takes from the server what it uses: figures are for comparing, not for boasting.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.__main__ import scenarios

ROOT = Path(__file__).resolve().parent.parent
#: Where free ports are looked for from.
PORT = 18080
#: By scenario: what it is asked with. A machine with two cores shall not be what is measured, so all of it is modest.
SHORT = {
    "steady": "-u 200 -t 10s --rate 20",
    "bursts": "-u 50 -t 10s",
    "topics": "-u 100 -t 10s --topics 500 --rate 100",
    "publish": "-t 8s --publishers 8 --topics 8 --topics-a-stream 8",
    "slow": "-u 40 -t 12s",
    "tokens": "-u 20 -t 10s",
    "storm": "-u 200 -t 12s --rate 20",
    "rolling": "-u 100 -t 30s --rate 20",
}
#: Every run is bounded; this is for one whose bounds have failed.
LONGEST_RUN = 900.0


class Kit(NamedTuple):
    """A running kit: its page, and the process that a signal makes replace its workers."""

    url: str
    gunicorn: int


class Outcome(NamedTuple):
    """One run: its exit code, and report.json."""

    scenario: str
    code: int
    data: dict[str, Any]


@contextmanager
def kit() -> Iterator[Kit]:
    """Start the kit, and stop it with the block."""
    with tempfile.TemporaryDirectory(prefix="sse-load-") as folder:
        command = [
            sys.executable,
            str(ROOT / "scripts" / "run.py"),
            "--redis",
            "--run-dir",
            folder,
            "--port",
            str(PORT),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if line.strip().startswith("http://"):
                    break
            else:
                raise SystemExit(f"The kit did not start:\n{''.join(said)}")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            # Redis, gunicorn, nginx: in the order in which they were started.
            yield Kit(line.strip(), int(children[1]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def run(scenario: str, target: Kit, folder: Path, options: list[str]) -> Outcome:
    """Run one scenario; its own output goes to this one's."""
    command = [sys.executable, "-m", "loadtest", scenario, "--host", target.url, "--out", str(folder), *options]
    if scenario == "rolling":
        command += ["--disturb-command", f"kill -HUP {target.gunicorn}"]
    print(f"\n=== {scenario}: {shlex.join(options)}", flush=True)
    log = folder / "locust.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        code = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=output, timeout=LONGEST_RUN, check=False
        ).returncode
    report = folder / "report.json"
    if not report.exists():
        raise SystemExit(f"{scenario} has not come to a report:\n{log.read_text()[-2000:]}")
    print((folder / "report.txt").read_text(), flush=True)
    return Outcome(scenario, code, json.loads(report.read_text()))


def as_markdown(outcomes: list[Outcome]) -> str:
    """Return the report of all runs: a line each, their answers, their plots."""
    lines = ["# Load", "", "| scenario | | delivery p50 | p99 | lost | deliveries/s | generator late, p99 |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, code, data in outcomes:
        delivery = data["times_ms"].get("delivery", {"p50": 0, "p99": 0})
        own = data["times_ms"]["own lateness"]["p99"]
        lines.append(
            f"| [{name}]({name}/locust.html) | {'passed' if code == 0 else '**FAILED**'} | {delivery['p50']:.2f} ms | "
            f"{delivery['p99']:.2f} ms | {data['counts']['lost']} | {data['deliveries_a_second']:,.0f} | {own:.2f} ms |"
        )
    for name, _, data in outcomes:
        lines += ["", f"## {name}", "", data["question"], "", f"> {data['answer']}", "", f"![{name}]({name}/plot.svg)"]
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the matrix, or the scenarios that are named; the exit status is 1 if one of them has failed."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.matrix", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SHORT)} (default: all of them)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("run/load"), help="the folder of the report (default: %(default)s)"
    )
    given, further = parser.parse_known_args()
    unknown = set(given.scenarios) - scenarios().keys()
    if unknown:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    out: Path = given.out.resolve()
    with kit() as target:
        chosen = given.scenarios or list(SHORT)
        outcomes = [run(name, target, out / name, [*shlex.split(SHORT.get(name, "")), *further]) for name in chosen]
    (out / "report.md").write_text(as_markdown(outcomes), "utf-8")
    print(f"\n{as_markdown(outcomes).partition('## ')[0]}\n{out / 'report.md'}")
    sys.exit(any(code for _, code, _ in outcomes))


if __name__ == "__main__":
    main()
