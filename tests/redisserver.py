"""Real Redis servers for tests: on free ports of 127.0.0.1, in folders of their own, stopped by their pids."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import redis
from redis.crc import key_slot

from tests.ports import free_port

TIMEOUT = 30.0
#: Another one (a Valkey, a newer Redis) can be tried by naming its server here.
COMMAND = os.environ.get("REDIS_SERVER", "redis-server")
Found = TypeVar("Found")


def wait_until(ask: Callable[[], Found], what: str, timeout: float = TIMEOUT) -> Found:
    """Ask until the answer is true, and return it. What a server that is not there yet raises counts as no."""
    end = time.monotonic() + timeout
    while True:
        with suppress(redis.RedisError, OSError):
            found = ask()
            if found:
                return found
        assert time.monotonic() < end, f"waited {timeout} s in vain: {what}"
        time.sleep(0.02)


class RedisServer:
    """One server. `start` after `stop` or `kill` brings it back at the same address, with what it had written."""

    def __init__(
        self, folder: Path, *, port: int | None = None, aof: bool = False, options: Sequence[object] = ()
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        # Short: the path of a unix socket has 107 bytes at most.
        self._sockets = Path(tempfile.mkdtemp(prefix="sse-"))
        self.url = f"redis://127.0.0.1:{self.port}/0"
        #: The same server on a unix socket.
        self.unix_url = f"unix://{self._sockets}/s"
        self._aof = aof
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []

    @property
    def pid(self) -> int:
        """The pid of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "the server runs"
        settings: list[object] = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", ""]
        settings += ["--unixsocket", self._sockets / "s", "--appendonly", "yes" if self._aof else "no"]
        settings += ["--appendfsync", "always"]
        self._run([COMMAND, *settings, *self._options])

    def _run(self, command: Sequence[object]) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
        client = self.client()
        wait_until(lambda: self._is_ready(client), f"a server on port {self.port}: {self.log()}")

    def _is_ready(self, client: redis.Redis) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        # Without a password PING is refused, and that too is an answer.
        with suppress(redis.AuthenticationError):
            # Another server may have taken the port: ours answers with its own pid.
            return int(client.info("server")["process_id"]) == self._process.pid
        return True

    def log(self) -> str:
        """What the server has written."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, **options: Any) -> redis.Redis:
        """A client of this server, closed with it; one with options is a new one. It repeats nothing: a test sees all."""
        if not options and self._clients:
            return self._clients[0]
        chosen = {"protocol": 2, "socket_timeout": TIMEOUT, "retry": None} | options
        client = redis.Redis(host="127.0.0.1", port=self.port, **chosen)
        # The first is the one without options.
        self._clients.append(client)
        return client

    def ask(self, *command: Any) -> Any:
        """Run a command, and return what redis-py makes of the reply."""
        return self.client().execute_command(*command)

    def stop(self) -> None:
        """Let it end by itself: it writes what it has to."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without any warning."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            # A paused process hears of SIGTERM only when it goes on.
            process.send_signal(signal.SIGCONT)
            process.wait(TIMEOUT)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good and close its clients."""
        for client in self._clients:
            client.close()
        self.kill()
        shutil.rmtree(self._sockets)


@contextmanager
def redis_server(
    folder: Path, *, port: int | None = None, aof: bool = False, options: Sequence[object] = ()
) -> Iterator[RedisServer]:
    """Run a server in a new folder inside of `folder`; with ``aof`` it has what it answered after `kill` too."""
    place = folder / f"redis-{free_port() if port is None else port}"
    place.mkdir()
    server = RedisServer(place, port=port, aof=aof, options=options)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(place)


#: What every test of a fail-over wants: quick verdicts, and no waiting for more replicas before the first is served.
_REPLICATION = ("--repl-diskless-sync-delay", 0, "--repl-ping-replica-period", 1, "--repl-timeout", 5)


class _SentinelProcess(RedisServer):
    """One sentinel; its configuration is a file, since it writes what it learns there."""

    def __init__(self, folder: Path, service: str, primary: int) -> None:
        super().__init__(folder)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {service} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {service} 1000",
            f"sentinel failover-timeout {service} 5000",
            f"sentinel parallel-syncs {service} 2",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        assert not self.is_running, "the sentinel runs"
        self._run([COMMAND, self.folder / "sentinel.conf", "--sentinel"])


class Sentinel:
    """A primary with two replicas, and three sentinels that agree on who it is."""

    service = "mymaster"

    def __init__(self, folder: Path, options: Sequence[object]) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []
        for i in range(3):
            (folder / f"redis-{i}").mkdir()
            follow = ("--replicaof", "127.0.0.1", self.servers[0].port) if self.servers else ()
            chosen = (*_REPLICATION, *follow, *options)
            self.servers.append(RedisServer(folder / f"redis-{i}", options=chosen))
        for i in range(3):
            (folder / f"sentinel-{i}").mkdir()
            self.sentinels.append(_SentinelProcess(folder / f"sentinel-{i}", self.service, self.servers[0].port))
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{self.service}/0"

    def start(self) -> None:
        """Start all, and wait until a fail-over is possible."""
        for each in [*self.servers, *self.sentinels]:
            each.start()
        self.wait_until_healthy()

    def primary(self) -> RedisServer:
        """The server that the sentinels name."""
        for sentinel in self.sentinels:
            if sentinel.is_running:
                _, port = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                return next(each for each in self.servers if each.port == int(port))
        raise AssertionError("no sentinel runs")

    def wait_for_primary(self, other_than: RedisServer) -> RedisServer:
        """Wait until all sentinels name another primary, and it says so itself."""
        found = wait_until(lambda: self._agreed(other_than), "another server has become primary")
        assert found is not None
        return found

    def fail_over(self) -> RedisServer:
        """Have the sentinels put another server in the primary's place, though nothing is wrong with it; return that."""
        old = self.primary()
        asked_at = 0.0

        def moved() -> RedisServer | None:
            nonlocal asked_at
            # One that was begun is given up where the machine is too busy, and then it has to be asked for again.
            if time.monotonic() - asked_at > 10 and self.primary() is old:
                asked_at = time.monotonic()
                self.sentinels[0].ask("SENTINEL", "FAILOVER", self.service)
            return self._agreed(old)

        found = wait_until(moved, "another server has become primary", 2 * TIMEOUT)
        assert found is not None
        return found

    def _agreed(self, other_than: RedisServer) -> RedisServer | None:
        ports = {
            int(each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])
            for each in self.sentinels
            if each.is_running
        }
        found = next(each for each in self.servers if each.port in ports)
        agreed = len(ports) == 1 and found is not other_than and found.client().info("replication")["role"] == "master"
        return found if agreed else None

    def wait_until_healthy(self) -> None:
        """Wait until all running replicas are linked, and all sentinels know them and one another."""
        wait_until(self._is_healthy, "sentinels and replicas have found one another")

    def _is_healthy(self) -> bool:
        primary = self.primary()
        replicas = [each for each in self.servers if each.is_running and each is not primary]
        linked = all(each.client().info("replication").get("master_link_status") == "up" for each in replicas)
        sentinels = [each for each in self.sentinels if each.is_running]
        states: list[Any] = [each.client().sentinel_master(self.service) for each in sentinels]
        return linked and all(
            state["num-slaves"] >= len(replicas)
            and state["num-other-sentinels"] == len(self.sentinels) - 1
            and state["flags"] == "master"
            for state in states
        )

    def close(self) -> None:
        """Stop all for good."""
        for each in [*self.sentinels, *self.servers]:
            each.close()


class _Group(Protocol):
    """Servers that belong together."""

    def __init__(self, folder: Path, options: Sequence[object]) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


Group = TypeVar("Group", bound=_Group)


@contextmanager
def _running(kind: type[Group], folder: Path, options: Sequence[object]) -> Iterator[Group]:
    place = Path(tempfile.mkdtemp(dir=folder))
    group = kind(place, options)
    try:
        group.start()
        yield group
    finally:
        group.close()
        shutil.rmtree(place)


@contextmanager
def sentinel(folder: Path, *, options: Sequence[object] = ()) -> Iterator[Sentinel]:
    """Run a primary, two replicas and three sentinels in a new folder inside of `folder`; ``options`` are the servers'."""
    with _running(Sentinel, folder, options) as running:
        yield running


class Cluster:
    """Three primaries, and a replica for each."""

    def __init__(self, folder: Path, options: Sequence[object]) -> None:
        self.servers: list[RedisServer] = []
        self._bus_ports: list[int] = []
        for i in range(6):
            (folder / f"redis-{i}").mkdir()
            bus = free_port()
            self._bus_ports.append(bus)
            settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", 1000, "--cluster-port", bus)
            self.servers.append(RedisServer(folder / f"redis-{i}", options=(*_REPLICATION, *settings, *options)))
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers)
        self.url = f"redis+cluster://{hosts}"

    def start(self) -> None:
        """Start all, make a Cluster of them, and wait until it can lose any primary."""
        for each in self.servers:
            each.start()
        for i, each in enumerate(self.servers):
            each.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for each, bus in zip(self.servers[1:], self._bus_ports[1:], strict=True):
            self.servers[0].ask("CLUSTER", "MEET", "127.0.0.1", each.port, bus)
        for each, slots in zip(self.servers, ((0, 5460), (5461, 10922), (10923, 16383)), strict=False):
            each.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        wait_until(self._is_acquainted, "all nodes know one another")
        for i, each in enumerate(self.servers[3:]):
            each.ask("CLUSTER", "REPLICATE", self.node_id(self.servers[i]))
        self.wait_until_healthy()

    def _is_acquainted(self) -> bool:
        return all(len(each.ask("CLUSTER", "NODES").splitlines()) == len(self.servers) for each in self.servers)

    def node_id(self, server: RedisServer) -> str:
        """The name that a server has in the Cluster."""
        name: bytes = server.ask("CLUSTER", "MYID")
        return name.decode()

    def wait_until_healthy(self) -> None:
        """Wait until all slots are served, all running servers say so, and each running replica is linked."""
        wait_until(self._is_healthy, "the Cluster is healthy")

    def _is_healthy(self) -> bool:
        running = [each for each in self.servers if each.is_running]
        infos = [each.client().info("replication") for each in running]
        views = {tuple(self._owners(each).items()) for each in running}
        primaries = [info for info in infos if info["role"] == "master"]
        is_whole = len(running) == len(self.servers)
        return (
            all(b"cluster_state:ok" in each.ask("CLUSTER", "INFO") for each in running)
            and len(views) == 1
            and len(primaries) == 3
            and all(info.get("master_link_status", "up") == "up" for info in infos)
            and (not is_whole or all(info["connected_slaves"] >= 1 for info in primaries))
        )

    def _owners(self, server: RedisServer) -> dict[tuple[int, int], int]:
        return {(first, last): primary[1] for first, last, primary, *_ in sorted(server.ask("CLUSTER SLOTS"))}

    def primary_of(self, namespace: str) -> RedisServer:
        """The server that serves the slot of a namespace, as most running servers see it."""
        slot = key_slot(namespace.encode())
        ports = [
            port
            for each in self.servers
            if each.is_running
            for (first, last), port in self._owners(each).items()
            if first <= slot <= last
        ]
        port = max(set(ports), key=ports.count)
        return next(each for each in self.servers if each.port == port)

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """A running replica of a primary."""
        return next(
            each
            for each in self.servers
            if each.is_running and each.client().info("replication").get("master_port") == primary.port
        )

    def wait_for_primary(self, namespace: str, other_than: RedisServer) -> RedisServer:
        """Wait until another server serves the slot of a namespace, in the eyes of all that run."""
        wait_until(
            lambda: self._is_healthy() and self.primary_of(namespace) is not other_than, "another server is primary"
        )
        return self.primary_of(namespace)

    def namespace_on(self, server: RedisServer, among: Sequence[str] | None = None) -> str:
        """A namespace whose slot a primary serves."""
        names = among or [f"n{i}" for i in range(100)]
        return next(each for each in names if self.primary_of(each) is server)

    def begin_move(self, namespace: str, target: RedisServer) -> RedisServer:
        """Begin to move the slot of a namespace; the source, which is returned, has its keys still."""
        slot, source = key_slot(namespace.encode()), self.primary_of(namespace)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(target))
        return source

    def move_keys(self, namespace: str, source: RedisServer, target: RedisServer, count: int = 1_000_000) -> None:
        """Move keys of the slot, all of them unless a number is given."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", key_slot(namespace.encode()), count)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *keys)

    def end_move(self, namespace: str, target: RedisServer) -> None:
        """Make the target the owner of the slot, and wait until all know."""
        slot, name = key_slot(namespace.encode()), self.node_id(target)
        for each in [target, *(each for each in self.servers if each is not target and each.is_running)]:
            # Replicas learn it from their primaries.
            if each.client().info("replication")["role"] == "master":
                each.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
        wait_until(
            lambda: all(
                any(first <= slot <= last and port == target.port for (first, last), port in self._owners(each).items())
                for each in self.servers
                if each.is_running
            ),
            "all know who serves the slot",
        )

    def move(self, namespace: str, target: RedisServer) -> None:
        """Move the slot of a namespace with all its keys."""
        source = self.begin_move(namespace, target)
        self.move_keys(namespace, source, target)
        self.end_move(namespace, target)

    def close(self) -> None:
        """Stop all for good."""
        for each in self.servers:
            each.close()


@contextmanager
def cluster(folder: Path, *, options: Sequence[object] = ()) -> Iterator[Cluster]:
    """Run three primaries with a replica each in a new folder inside of `folder`; ``options`` are the servers'."""
    with _running(Cluster, folder, options) as running:
        yield running
