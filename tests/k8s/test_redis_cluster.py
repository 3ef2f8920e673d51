"""The script of components/redis-cluster, which makes six Redis one Cluster, on six real ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.check_kubernetes import K8S
from tests.ports import free_port
from tests.redisserver import RedisServer, wait_until

SCRIPT = K8S / "components/redis-cluster/create.sh"
PASSWORD = "open-sesame"
NODES = 6


class Nodes:
    """Servers that do not know each other yet; started anew they have other ports, as pods have other addresses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[RedisServer] = []

    def start(self) -> None:
        """Start all, each with the files that it left behind."""
        for number in range(NODES):
            place = self._folder / str(number)
            place.mkdir(exist_ok=True)
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", 1000, "--cluster-port", free_port()]
            options += ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", 0]
            server = RedisServer(place, options=options)
            self._running.append(server)
            server.start()

    def stop(self) -> None:
        """Stop all."""
        while self._running:
            server = self._running.pop()
            if server.is_running:
                server.stop()
            server.close()

    def introduce(self) -> str:
        """Run the script, and return what it says last."""
        names = " ".join(f"127.0.0.1:{server.port}" for server in self._running)
        environment = os.environ | {"NODES": names, "REDISCLI_AUTH": PASSWORD, "PATIENCE": "60"}
        done = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        # redis-cli ends its colours on our line.
        return done.stdout.splitlines()[-1].removeprefix("\x1b[0m")

    def roles(self) -> list[str]:
        """Whether each is a master or a replica, by itself."""
        return sorted(server.client(password=PASSWORD).role()[0].decode() for server in self._running)

    def refusals(self) -> int:
        """How many answer nothing without the password."""
        return sum("NOAUTH" in asked_without_password(server.port) for server in self._running)


def asked_without_password(port: int) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "REDISCLI_AUTH"}
    command = ["redis-cli", "-p", str(port), "cluster", "info"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        made = Nodes(tmp_path)
        stack.callback(made.stop)
        made.start()
        yield made


def test_six_pods_become_one_cluster_and_find_each_other_again(nodes: Nodes) -> None:
    """They become three masters with a replica each; once more changes nothing; with new addresses they find back together."""
    assert nodes.introduce() == "they are a Cluster"
    wait_until(lambda: nodes.roles() == ["master"] * 3 + ["slave"] * 3, "three replicas")
    assert nodes.introduce() == "they are a Cluster already"
    assert nodes.refusals() == NODES

    nodes.stop()
    nodes.start()

    assert nodes.introduce() == "they are a Cluster"
    assert nodes.introduce() == "they are a Cluster already"
