"""The doctor, through a real nginx that is wrong in one way at a time, and through the shipped one, which is not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sse_kit.cli import main
from sse_kit.client import Server as Address
from sse_kit.client import UnavailableError
from sse_kit.doctor.checks import Examination, Examiner
from tests.nginx_server import Nginx, machine_s_nginx, short_folder
from tests.ports import free_port
from tests.servers import Server, running_service

# Seconds. Only what is held back takes so long, and what is not has all of the time.
PATIENCE = 60.0
SHORT = 1.5
TOKEN = "0123456789abcdef0123456789abcdef"

# What is right, as nginx spells it.
RIGHT = {
    "proxy_http_version": "1.1",
    "proxy_set_header": ['Connection ""', "Host localhost"],
    "proxy_buffering": "off",
    "proxy_read_timeout": "60s",
    "gzip": "off",
}

Front = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    """A service that breaks a silence after six seconds."""
    with running_service(keepalive=6.0, drain_seconds=0.1) as server:
        yield server


@contextmanager
def nginx_with(upstream: str, **wrong: str | list[str]) -> Iterator[str]:
    """Run an nginx in front of a service, right but for the directives that are given, and yield its address."""
    folder = short_folder()
    port = free_port()
    streams = "\n".join(
        f"{name} {value};"
        for name, values in (RIGHT | wrong).items()
        for value in (values if isinstance(values, list) else [values])
    )
    rest = "\n".join(f"proxy_set_header {value};" for value in RIGHT["proxy_set_header"])
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log stderr;
        events {{}}
        http {{
            access_log off;
            {temporary}
            proxy_cache_path {folder}/cache keys_zone=kept:1m;
            server {{
                listen 127.0.0.1:{port};
                location = /events {{ {streams} proxy_pass http://{upstream}; }}
                location / {{ proxy_http_version 1.1; {rest} proxy_pass http://{upstream}; }}
            }}
        }}
    """)
    process = subprocess.Popen([str(machine_s_nginx().path), "-c", str(folder / "nginx.conf")])
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


def examine(address: str, *, patience: float = PATIENCE, idle: bool = False, token: str | None = None) -> Examination:
    return Examiner(Address(address), patience=patience, idle=idle, token=token).examine()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_the_shipped_nginx_is_healthy() -> None:
    """Through the shipped configuration streams arrive as they were sent, keepalives included, and the doctor says so."""
    with (
        running_service(keepalive=1.0, drain_seconds=0.1, tokens={"ann": TOKEN}) as service,
        Nginx(service.url) as nginx,
    ):
        result = run(nginx.url, service.url, "--patience", str(PATIENCE), "--json", "--token", TOKEN)

    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    assert document["healthy"] is True
    assert [each["faults"] + each["skipped"] for each in document["addresses"]] == [[], []]
    assert document["addresses"][0]["hops"] == ["nginx"]


def test_what_is_right_is_healthy(service: Server) -> None:
    """The nginx of these tests is at fault in nothing before something is made wrong."""
    with nginx_with(service.url) as address:
        found = examine(address, idle=True)

    assert (found.evidence, found.skipped) == ({}, [])


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (
            "compresses",
            {"gzip": "on", "gzip_types": "text/event-stream", "gzip_proxied": "any", "gzip_min_length": "1"},
        ),
        ("downgrades", {"proxy_http_version": "1.0"}),
        ("strips", {"proxy_set_header": [*RIGHT["proxy_set_header"], 'Last-Event-ID ""']}),
    ],
)
def test_what_a_hop_does_to_the_head_is_named(service: Server, fault: str, wrong: dict[str, Any]) -> None:
    """An nginx that compresses, speaks HTTP/1.0 or takes Last-Event-ID away is told just that, and how to repair it."""
    with nginx_with(service.url, **wrong) as address:
        result = run(address, service.url, "--json", "--no-idle", "--patience", str(PATIENCE))

    assert result.exit_code == 1, result.output
    (finding,) = json.loads(result.output)["findings"]
    assert (finding["fault"], finding["address"], finding["hops"]) == (fault, address, ["nginx"])
    assert finding["certain"] is True
    assert finding["remedies"].keys() == {"nginx", "f5-nic"}


def test_what_buffers_is_named(service: Server) -> None:
    """Events that come only when more has been sent behind them were held back, whatever time it was."""
    with nginx_with(service.url, proxy_buffering="on", proxy_ignore_headers="X-Accel-Buffering") as address:
        found = examine(address, patience=SHORT)

    assert "buffers" in found.evidence
    assert "bytes" in found.evidence["buffers"]
    assert "caches" not in found.evidence


def test_what_cuts_is_named(service: Server) -> None:
    """A stream that ends in a silence, before the service broke it, was ended by somebody else."""
    with nginx_with(service.url, proxy_read_timeout="3s") as address:
        found = examine(address, idle=True)

    assert found.evidence.keys() == {"cuts"}
    assert "the service did not end it" in found.evidence["cuts"] or "proper end" in found.evidence["cuts"]


def test_what_caches_is_named(service: Server) -> None:
    """An answer that comes twice was kept, though the service forbids it."""
    with nginx_with(
        service.url,
        proxy_buffering="on",
        proxy_cache="kept",
        proxy_cache_valid="200 1m",
        proxy_ignore_headers="Cache-Control X-Accel-Buffering",
    ) as address:
        found = examine(address, patience=SHORT)

    assert "caches" in found.evidence


def test_text_says_who_and_what_to_do(service: Server) -> None:
    """For people the hop is named, with what to write into its configuration."""
    with nginx_with(service.url, proxy_http_version="1.0") as address:
        result = run(address, "--no-idle")

    assert result.exit_code == 1
    assert f"nginx, at {address}, or behind it, speaks HTTP/1.0" in result.output
    assert "nginx: proxy_http_version 1.1;" in result.output
    assert "F5 NGINX Ingress Controller: " in result.output


def test_who_may_not_ask_is_told_so() -> None:
    """Without the token that the service wants the doctor is refused, and says why."""
    with running_service(tokens={"ann": TOKEN}) as service:
        result = run(service.url)

    assert result.exit_code == 1
    assert "401" in result.output


def test_where_nobody_listens_is_no_diagnosis() -> None:
    """An address that does not answer is told as that."""
    result = run(f"http://127.0.0.1:{free_port()}")

    assert result.exit_code == 3
    assert "the connection failed" in result.output


class SomethingElse(BaseHTTPRequestHandler):
    """A server that is none of ours."""

    def do_GET(self) -> None:
        """Answer with a page."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_is_not_ours_is_no_diagnosis() -> None:
    """What answers without saying what arrived cannot be judged."""
    with HTTPServer(("127.0.0.1", 0), SomethingElse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UnavailableError, match="not of sse-kit"):
            examine(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_service_may_keep_it_to_itself() -> None:
    """With the setting off nobody is told what arrives."""
    with running_service(doctor=False) as service:
        result = run(service.url)
        answer = service.request("POST", f"/doctor/{'a' * 32}?beat=1")

    assert result.exit_code == 1
    assert "400" in result.output
    assert (answer.status, answer.json()["type"]) == (404, "urn:sse-kit:problem:unknown-probe")


@pytest.mark.parametrize("query", ["beat=x", "beat=-1", "beat=1&padding=65537", "padding=99999999", "beat=%C2%B2"])
def test_what_is_asked_for_is_bounded(service: Server, query: str) -> None:
    """A beat has a number, and padding up to a bound; anything else is refused."""
    answer = service.request("POST", f"/doctor/{'a' * 32}?{query}")

    assert (answer.status, answer.json()["type"]) == (400, "urn:sse-kit:problem:invalid-parameter")


@pytest.mark.parametrize("topics", ["doctor/x", "doctor/" + "A" * 32, "doctor/" + "a" * 32 + "&topic=b"])
def test_only_the_doctor_s_own_topics_can_be_heard(service: Server, topics: str) -> None:
    """A topic of the doctor has a name that nobody guesses, and a stream of its own; nobody else publishes on it."""
    assert service.request("GET", f"/events?topic={topics}").status == 400
    body = json.dumps({"topic": "doctor/" + "a" * 32, "data": "x"}).encode()
    answer = service.request("POST", "/publish", body, {"Content-Type": "application/json"})

    assert answer.status in (403, 422)


def test_what_arrived_is_told_within_bounds(service: Server) -> None:
    """The names of proxies' fields are told and not their values; those that are told are short, and are ASCII."""
    answer = service.request(
        "GET",
        f"/events?topic=doctor/{'a' * 32}&whole=1",
        headers={"Via": "1.1 é" + "x" * 5000, "X-Forwarded-For": "203.0.113.9", "Authorization": "Bearer secret"},
    )
    arrived = json.loads(answer.headers["sse-kit-arrived"])

    assert answer.headers["cache-control"] == "no-cache, no-store"
    assert len(answer.headers["sse-kit-arrived"]) < 3000
    assert arrived["headers"]["via"].startswith("1.1 ")
    assert arrived["named"] == ["x-forwarded-for"]
    assert "203.0.113.9" not in answer.headers["sse-kit-arrived"]
    assert "secret" not in answer.headers["sse-kit-arrived"]
