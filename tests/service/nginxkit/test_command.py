"""`sse-kit nginx`, with the nginx of this machine and with the newest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from sse_kit.nginxkit.files import SHIPPED
from sse_kit.nginxkit.program import Program, ProgramError, check, find, parse_version
from tests.nginx_server import latest_nginx, machine_s_nginx


@pytest.fixture(params=[machine_s_nginx, latest_nginx], ids=["machine's", "latest"])
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.param()
    return found


@pytest.fixture
def certificate(tmp_path: Path) -> list[str]:
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    issued.private_key_pem.write_to_path(tmp_path / "k.pem")
    return ["--certificate", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sse_kit", "nginx", *arguments], capture_output=True, text=True, timeout=60
    )


def test_what_it_writes_is_valid(tmp_path: Path, program: Program, certificate: list[str]) -> None:
    """With most of its options the result passes nginx's own check, without a warning, and the path is printed."""
    kit = tmp_path / "kit"
    limits = ["--streams", "300", "--streams-per-client", "9", "--connect-rate", "8", "--publish-rate", "7"]
    sizes = [
        "--keepalive",
        "1.5",
        "--max-body-bytes",
        "1000",
        "--max-upload-bytes",
        "2000",
        "--uploads-per-client",
        "3",
    ]
    places = ["--listen", "127.0.0.1:1080", "--name", "a.example", "--upstream", "unix:/x", "--upstream", "127.0.0.1:1"]
    trust = ["--proxy", "10.0.0.0/8", "--trusted", "127.0.0.1", "--access-log", "off", "--page"]
    done = run(str(kit), "--nginx", program.path, *places, *limits, *sizes, *trust, *certificate, "--hsts", "60")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{kit}/nginx.conf\n"
    assert f"checked by {program.path}" in done.stderr
    assert ("http2 on;" in (kit / "site/tls.conf").read_text()) == (program.version >= (1, 25, 1))
    assert str(SHIPPED.parent) in (kit / "site/page.conf").read_text()


def test_what_nginx_says_against_it_is_told(tmp_path: Path, program: Program) -> None:
    """A configuration that nginx rejects ends the command with nginx's words."""
    missing = ["--certificate", str(tmp_path / "nowhere.pem"), "--key", str(tmp_path / "nowhere.key")]
    done = run(str(tmp_path / "kit"), "--nginx", program.path, *missing)

    assert done.returncode == 1
    assert "nowhere.pem" in done.stderr
    assert "[emerg]" in done.stderr


def test_a_warning_is_a_failure(tmp_path: Path, certificate: list[str]) -> None:
    """HTTP/2 as old versions spell it makes a new nginx warn, and so the check fails: warnings in a log are never read."""
    kit = tmp_path / "kit"
    done = run(str(kit), "--nginx-version", "1.22.1", "--no-check", *certificate)
    assert done.returncode == 0, done.stderr

    with pytest.raises(ProgramError, match="http2"):
        check(kit, latest_nginx())


def test_for_another_machine(tmp_path: Path, certificate: list[str]) -> None:
    """For a version that is not here nothing is checked, and that is said."""
    done = run(str(tmp_path / "kit"), "--nginx-version", "1.26", *certificate, "--http3")

    assert done.returncode == 0, done.stderr
    assert "written for nginx 1.26.0, not checked by an nginx" in done.stderr
    assert "quic" in (tmp_path / "kit/site/tls.conf").read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--hsts", "60"], "--certificate and --key are missing"),
        (["--key", "k.pem"], "--certificate and --key belong together"),
        (["--nginx-version", "new"], "'new' is not a version such as 1.26.3"),
        (["--listen", "80;"], "'80;' is not PORT"),
        (["--certificate", "c", "--key", "k", "--http3", "--nginx-version", "1.24.0"], "needs nginx 1.25 or later"),
    ],
)
def test_what_cannot_be(tmp_path: Path, arguments: list[str], reason: str) -> None:
    """Options that contradict each other are a wrong usage, and nothing is written."""
    done = run(str(tmp_path / "kit"), *arguments)

    assert done.returncode == 2
    assert reason in done.stderr
    assert not (tmp_path / "kit").exists()


def test_what_this_nginx_was_not_built_for(tmp_path: Path, certificate: list[str]) -> None:
    """A feature that the nginx that is there lacks is named, with its module."""
    latest = latest_nginx()
    for option, module in (("--http3", "http_v3_module"), ("--status=127.0.0.1:81", "http_stub_status_module")):
        done = run(str(tmp_path / "kit"), "--nginx", latest.path, *certificate, option)
        assert done.returncode == 2
        assert f"was built without {module}" in done.stderr


def test_a_program_that_is_no_nginx(tmp_path: Path) -> None:
    """What is named by --nginx and cannot run, or is something else, is said at once."""
    with pytest.raises(ProgramError, match="cannot be executed"):
        find(str(tmp_path / "nginx"))
    with pytest.raises(ProgramError, match="does not say nginx's version"):
        find("/bin/true")


def test_versions_are_numbers() -> None:
    """Versions are compared as numbers: 1.9 is older than 1.25."""
    assert parse_version("1.9.15") < parse_version("1.25") < parse_version("1.25.1")


def test_more_streams_than_descriptors_are_told(tmp_path: Path) -> None:
    """Streams for which this system's hard limit of open files is too low are said, with what to do."""
    limited = "ulimit -n 1000; exec " + " ".join([sys.executable, "-m", "sse_kit", "nginx"])
    done = subprocess.run(
        ["sh", "-c", f"{limited} {tmp_path}/kit --no-check --streams 5000"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "take 11228 descriptors, and the hard limit of open files is 1000 here" in done.stderr
