from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

from sse_kit.server import gunicorn_settings
from sse_kit.settings import Settings
from tests.ports import free_port
from tests.servers import COMMAND, TIMEOUT, running_service


def test_gunicorn_settings() -> None:
    """gunicorn hands streams over, keeps connections longer than a proxy does, and starts nothing before the fork."""
    settings = gunicorn_settings(Settings(bind="unix:/x", threads=3))

    assert settings["worker_class"] == "sse_core.worker.EventWorker"
    assert settings["keepalive"] == 75
    assert (settings["bind"], settings["workers"], settings["threads"]) == ("unix:/x", 1, 3)
    assert (settings["preload_app"], settings["max_requests"], settings["control_socket_disable"]) == (False, 0, True)


def test_log_is_json_lines() -> None:
    """Everything on standard error, gunicorn's messages too, is one JSON object a line; requests are not logged."""
    with running_service() as server:
        server.publish("a", 1)
        with server.reader("/events?topic=a"):
            pass
        assert server.stop() == 0
        entries = [json.loads(line) for line in server.log]

    assert {"event", "level", "logger", "timestamp"} <= entries[0].keys()
    assert any(entry["event"].startswith("Listening at: unix:") for entry in entries)
    assert [entry for entry in entries if "publish" in entry["event"]] == []


def test_console_log() -> None:
    """For people the log has lines for people."""
    with running_service(log_format="console") as server:
        assert "Listening at" in server.wait_for_log("Listening at")
        assert not server.log[0].startswith("{")
        # A TERM that reaches a worker before it has its handlers is lost on it.
        assert server.request("GET", "/healthz").status == 200


def test_log_level() -> None:
    """Below the level that was asked for nothing is written, from start to stop."""
    port = free_port()
    command = [*COMMAND, "serve", "--bind", f"127.0.0.1:{port}"]
    environment = {**os.environ, "SSE_KIT_LOG_LEVEL": "error"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.0 200"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT)

    assert errors == ""


def test_tcp() -> None:
    """The server listens on TCP too, where streams arrive as well."""
    port = free_port()
    command = [*COMMAND, "serve", "--bind", f"127.0.0.1:{port}", "--threads", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("Booting worker" in line for line in process.stderr)
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
                connection.sendall(b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
                received = b""
                while b"\r\n\r\nretry: 2000\n" not in received:
                    chunk = connection.recv(65536)
                    assert chunk, received
                    received += chunk
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_no_hub_that_cannot_be() -> None:
    """Options that contradict each other are told at the start, not by a worker that does not come up."""
    environment = {**os.environ, "SSE_KIT_MAX_EVENT_BYTES": "200000", "SSE_KIT_MAILBOX_BYTES": "300000"}
    done = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, env=environment, timeout=TIMEOUT)

    assert done.returncode == 2
    assert "max_event_bytes: must be at most half of mailbox_bytes" in " ".join(done.stderr.split())
