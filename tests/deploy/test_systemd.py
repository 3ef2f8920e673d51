"""The units of deploy/systemd/, judged by systemd's own tools: they need no systemd that runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/sse-kit/bin/sse-kit"
#: Debian's, as far as the drop-in has something to replace.
NGINX = """\
[Unit]
Description=nginx
[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t -q -g 'daemon on; master_process on;'
ExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'
ExecStop=-/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile /run/nginx.pid
TimeoutStopSec=5
KillMode=mixed
"""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder of units: ours, with a program that is there, and nginx's with our drop-in."""
    text = (FOLDER / "sse-kit.service").read_text("utf-8")
    assert f"ExecStart={PROGRAM} serve\n" in text
    (tmp_path / "sse-kit.service").write_text(text.replace(PROGRAM, sys.executable))
    (tmp_path / "nginx.service").write_text(NGINX)
    (tmp_path / "nginx.service.d").mkdir()
    shutil.copy(FOLDER / "nginx.conf", tmp_path / "nginx.service.d" / "sse-kit.conf")
    return tmp_path


def analyze(*arguments: object, units: Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze with a folder of units before the system's own."""
    command = ["env", f"SYSTEMD_UNIT_PATH={units}:", "systemd-analyze", *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["sse-kit.service", "nginx.service"])
def test_systemd_understands_the_units(units: Path, name: str) -> None:
    """Each line is one that systemd knows, with a value that it takes, in the section where it belongs."""
    done = analyze("verify", "--man=no", "--recursive-errors=no", units / name, units=units)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_that_is_none_is_found(units: Path) -> None:
    """The test above can fail: a word that systemd does not know is told."""
    with (units / "sse-kit.service").open("a") as unit:
        unit.write("[Service]\nProtectEverything=yes\n")

    assert "ProtectEverything" in analyze("verify", "--man=no", units / "sse-kit.service", units=units).stderr


def test_the_unit_leaves_little_open(units: Path) -> None:
    """systemd rates what a service could do if it were broken into, from 0 to 10: here at most 2."""
    done = analyze("security", "--offline=true", "--threshold=20", units / "sse-kit.service", units=units)

    assert "Overall exposure level" in done.stdout
    assert done.returncode == 0, done.stdout


def test_the_process_can_be_measured(tmp_path: Path) -> None:
    """The unit hides nothing of /proc that metrics of the process are made of: without its `stat` there would be none."""
    (tmp_path / "self").symlink_to("/proc/self")
    hidden = [*ProcessCollector(proc=str(tmp_path), registry=None).collect()]
    (tmp_path / "stat").symlink_to("/proc/stat")
    found = {metric.name for metric in ProcessCollector(proc=str(tmp_path), registry=None).collect()}

    assert hidden == []
    assert {"process_open_fds", "process_max_fds", "process_start_time_seconds"} <= found
    assert "\nProcSubset=" not in (FOLDER / "sse-kit.service").read_text("utf-8")


def test_the_user_is_made(tmp_path: Path) -> None:
    """The user has no shell, and nginx' workers are put into its group."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n")
    (tmp_path / "etc" / "group").write_text("www-data:x:33:\n")
    (tmp_path / "etc" / "sysusers.d").mkdir()
    shutil.copy(FOLDER / "sse-kit.sysusers", tmp_path / "etc" / "sysusers.d" / "sse-kit.conf")
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (user,) = [line for line in (tmp_path / "etc" / "passwd").read_text().splitlines() if line.startswith("sse-kit:")]
    (group,) = [line for line in (tmp_path / "etc" / "group").read_text().splitlines() if line.startswith("sse-kit:")]

    assert user.endswith("nologin")
    assert group.endswith(":www-data")
