"""Peers that vanish without a word, as a phone does in a tunnel: in a network of the test's own, whose packets are dropped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.servers import gunicorn, until

CLIENT = """
import socket, sys
connections = []
for _ in range(int(sys.argv[3])):
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    connection.sendall(b"GET /events?topic=a HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    received = b""
    while b"id: " not in received:
        received += connection.recv(65536)
    connections.append(connection)
print("open", flush=True)
sys.stdin.read()
"""
NAME = f"sse{os.getpid() % 10_000}"
OURS, THEIRS = "10.213.77.1", "10.213.77.2"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace with a link to it; skipped where the machine permits none."""
    for tool in ("ip", "nft"):
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"there is no {tool}")
    if (made := run("ip", "netns", "add", NAME)).returncode:
        pytest.skip(f"this machine permits no network namespace: {made.stderr.strip()}")
    try:
        for command in (
            f"ip link add {NAME} type veth peer name {NAME}p",
            f"ip link set {NAME}p netns {NAME}",
            f"ip addr add {OURS}/24 dev {NAME}",
            f"ip link set {NAME} up",
            f"ip netns exec {NAME} ip addr add {THEIRS}/24 dev {NAME}p",
            f"ip netns exec {NAME} ip link set {NAME}p up",
            f"ip netns exec {NAME} nft add table inet gone",
        ):
            if (done := run(*command.split())).returncode:
                pytest.skip(f"this machine permits no link between networks: {done.stderr.strip()}")
        yield NAME
    finally:
        run("ip", "link", "delete", NAME)
        run("ip", "netns", "delete", NAME)


@pytest.mark.soak
def test_peers_that_vanish_are_found(network: str) -> None:
    """Clients whose packets are dropped are closed by the send timeout, though their kernel never said that they were gone;
    one that is still there keeps its stream."""
    with (
        gunicorn(threads=2, tcp=True, bind=f"{OURS}:0", hub={"keepalive": 0.5, "send_timeout": 3}) as server,
        contextlib.ExitStack() as stack,
    ):
        port = listening_port(server.worker)
        client = stack.enter_context(
            subprocess.Popen(
                ["ip", "netns", "exec", network, sys.executable, "-c", CLIENT, OURS, str(port), "20"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            reader = stack.enter_context(server.stream())
            until(lambda: server.stats()["streams"] == 21, "all are adopted")
            before = server.stats()
            for hook in ("input", "output"):
                chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
                assert run("ip", "netns", "exec", network, "nft", f"add chain inet gone {hook} {chain}").returncode == 0
            until(lambda: server.stats()["streams"] == 1, "those that vanished are found")
            after = server.stats()
            ended = [f"streams_ended_{reason}" for reason in ("timeout", "error", "client")]
            assert sum(after[key] - before[key] for key in ended) == 20
            event_id = server.publish_aside("a", json.dumps("still here"))
            assert reader.read()[0].id == event_id
        finally:
            client.kill()


def listening_port(pid: int) -> int:
    """The port of the listener on our side of the link."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        address, port = fields[1].split(":")
        if fields[3] == "0A" and bytes.fromhex(address)[::-1] == bytes(map(int, OURS.split("."))):
            return int(port, 16)
    raise LookupError("nobody listens there")
