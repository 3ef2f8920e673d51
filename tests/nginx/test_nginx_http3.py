"""HTTP/3, by an nginx that has it, and by curl: both from Debian trixie, in a folder made for this."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nginx.client import TIMEOUT
from tests.nginx.conftest import Certificate
from tests.nginx.upstream import STREAM_HEAD, OpenStream, Upstream, reply
from tests.nginx_server import short_folder
from tests.ports import free_port

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root folder"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed"),
]
KIT = "kit"


@pytest.fixture(scope="module")
def trixie() -> Iterator[Path]:
    """A Debian with nginx and curl that know HTTP/3."""
    folder = short_folder()
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=nginx,curl", "trixie", str(folder / "root")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"no Debian can be had: {done.stderr[-300:]}")
    yield folder / "root"
    shutil.rmtree(folder)


@pytest.fixture
def upstream(trixie: Path) -> Iterator[Upstream]:
    with Upstream(trixie / "s") as upstream:
        yield upstream
    (trixie / "s").unlink()


@pytest.fixture
def port(trixie: Path, upstream: Upstream, certificate: Certificate) -> Iterator[int]:
    """nginx in there, in front of the fake gunicorn; its own check has passed what `sse-kit nginx` wrote."""
    for file, name in zip(certificate.files, ("c.pem", "k.pem"), strict=True):
        shutil.copy(file, trixie / name)
    (trixie / "trust.pem").write_bytes(certificate.authority)
    port = free_port()
    command = [sys.executable, "-m", "sse_kit", "nginx", str(trixie / KIT), "--nginx-version", "1.26.3", "--http3"]
    command += ["--listen", f"127.0.0.1:{free_port()}", "--tls-listen", f"127.0.0.1:{port}", "--upstream", "unix:/s"]
    # Paths as nginx will see them.
    command += ["--certificate", "/c.pem", "--key", "/k.pem", "--user", "root"]
    subprocess.run(command, check=True, capture_output=True)
    where = ["-p", f"/{KIT}", "-c", f"/{KIT}/nginx.conf", "-e", "stderr"]
    checked = subprocess.run(["chroot", str(trixie), "nginx", "-t", "-q", *where], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    nginx = subprocess.Popen(["chroot", str(trixie), "nginx", *where, "-g", "daemon off;"])
    try:
        deadline = time.monotonic() + TIMEOUT
        while curl(trixie, port, "/healthz", "--http1.1").returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        upstream.requests.clear()
        yield port
    finally:
        nginx.terminate()
        nginx.wait(TIMEOUT)


def arguments(trixie: Path, port: int, path: str, *options: str) -> list[str]:
    base = ["chroot", str(trixie), "curl", "--silent", "--show-error", "--no-buffer", "--cacert", "/trust.pem"]
    return [*base, "--max-time", "30", *options, f"https://localhost:{port}{path}"]


def curl(trixie: Path, port: int, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments(trixie, port, path, *options), capture_output=True, timeout=60)


def test_a_stream_over_http_3(trixie: Path, port: int, upstream: Upstream) -> None:
    """Over HTTP/3 an event is there before the next is written; a client that leaves ends its stream at the service."""
    stream = OpenStream(upstream, STREAM_HEAD + b"retry: 1500\n\n")
    # Where curl hangs up by itself, and says so: over UDP nobody else does for a client that is killed.
    command = arguments(trixie, port, "/events?topic=a", "--http3-only", "--max-filesize", "40")
    client = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert client.stdout is not None
        assert client.stdout.read(13) == b"retry: 1500\n\n"
        for number in range(3):
            event = f"data: {number}\n\n".encode()
            stream.write(event)

            assert client.stdout.read(len(event)) == event
            assert client.poll() is None
        stream.write(b"data: beyond what curl takes\n\n")
        client.wait(TIMEOUT)
    finally:
        client.kill()
        client.wait()

    assert stream.left.wait(TIMEOUT)
    assert upstream.requests[0].headers["x-forwarded-proto"] == "https"


def test_a_publish_over_http_3(trixie: Path, port: int, upstream: Upstream) -> None:
    """A body reaches the service over HTTP/3, and its answer comes back by the same way."""
    upstream.answer = reply(b"done")
    done = curl(trixie, port, "/publish", "--http3-only", "--data", "{}", "--write-out", " %{http_version}")

    assert done.stdout == b"done 3"
    assert upstream.requests[0].body == b"{}"


def test_browsers_are_told(trixie: Path, port: int) -> None:
    """An answer over HTTP/2 names the port at which HTTP/3 is spoken."""
    done = curl(trixie, port, "/healthz", "--http2", "--include")

    assert f'alt-svc: h3=":{port}"; ma=86400'.encode() in done.stdout.lower()
