"""The image that `make image` builds, built here on bases made of Debian's packages, and run as it is meant to be run."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.check_kubernetes import K8S, text_of
from scripts.kubernetes_secrets import encoded, make_secrets
from sse_core.testing import StreamReader
from tests.image.bases import NEIGHBOURS, bases
from tests.image.engine import Container, Engine, why_not
from tests.ports import free_port
from tests.redisserver import wait_until

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/sse-kit:test"
WAIT = 60.0
#: As docs/deploy/container.md says: nothing can be written but /tmp, and no right is left to gain.
CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
)
COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "tcc", "as", "ld", "make")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One for all tests here, and so in one file: each file may be run by a process of its own."""
    reason = why_not()
    if reason is not None:
        # Where changes are judged nothing is skipped unseen.
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    with Engine() as made:
        made.take(bases())
        yield made


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.build(ROOT, "--tag", IMAGE, "--build-arg", "REVISION=abc123")
    return IMAGE


def address(port: int) -> tuple[str, int]:
    return ("127.0.0.1", port)


def ask(port: int, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Exchange one request; the answer has to be JSON. The status is 0 where nobody listens."""
    with closing(http.client.HTTPConnection(*address(port), timeout=WAIT)) as connection:
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except ConnectionError:
            return 0, None


def publish(port: int, topic: str, data: object, **headers: str) -> str:
    """Publish one event over HTTP and return its id."""
    status, answer = ask(port, "POST", "/publish", {"topic": topic, "data": data}, **headers)
    assert status == 200, answer
    return str(answer["id"])


def is_well(container: Container) -> bool:
    """Whether the service in it answers; one that has ended never will, and its log says why."""
    if container.execute("sse-kit", "health").returncode == 0:
        return True
    assert container.inspect("{{.State.Status}}") in ("created", "running"), container.logs()
    return False


@contextmanager
def service(engine: Engine, image: str, *options: str) -> Iterator[tuple[Container, int]]:
    """The service in a container, well, and its port on loopback."""
    port = free_port()
    container = Container.start(engine, image, options=(*CONFINED, "--env", f"SSE_KIT_BIND=127.0.0.1:{port}", *options))
    try:
        wait_until(lambda: is_well(container), "the service is well", WAIT)
        yield container, port
    finally:
        engine.remove_containers()


def stream_through(port: int, drained: Callable[[], int], **headers: str) -> None:
    """Stream what is published; then call ``drained``, which sends TERM, and see that the stream is told and ends with 0."""
    with closing(StreamReader(address(port), "/events?topic=a", headers=headers, timeout=WAIT)) as reader:
        published = publish(port, "a", "hello", **headers)
        (event,) = reader.read()
        code = drained()
        left = reader.read_to_end()

    assert (event.id, event.data) == (published, "hello")
    assert (code, left, reader.reset) == (0, [], False)
    # Once as every stream begins, once as this one ended.
    assert reader.raw.count(b"retry: ") == 2
    assert reader.retry is not None
    assert 1000 <= reader.retry <= 5000


class TestContents:
    """What is in it."""

    def test_it_says_what_it_is(self, engine: Engine, image: str) -> None:
        """Labels name the project, its licence, version and revision, and the user is a number."""
        told = json.loads(engine.run("podman", "image", "inspect", image).stdout)[0]
        labels = {name.rpartition(".")[2]: value for name, value in told["Config"]["Labels"].items()}

        assert labels["title"] == "sse-kit"
        assert (labels["licenses"], labels["version"], labels["revision"]) == ("MIT", "0.1.0", "abc123")
        assert told["User"] == "10001:10001"
        assert told["Healthcheck"]["Test"] == ["CMD", "sse-kit", "health"]

    def test_it_has_no_compiler_and_no_installer(self, engine: Engine, image: str) -> None:
        """Neither a compiler nor pip is in it, nor anything that its user could write to."""
        script = (
            f"for name in {' '.join(COMPILERS)}; do command -v $name; done; "
            "python3 -c 'import importlib.util as u; print(u.find_spec(\"pip\"))'; "
            # What may be looked into by this user, whether or not the root is read-only.
            "find /bin /etc /lib /opt /sbin /usr -xdev -writable -not -type l 2>/dev/null; true"
        )
        run = ("podman", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c")
        done = engine.run(*run, script)

        assert done.stdout == "None\n"

    def test_it_lists_what_it_is_made_of(self, engine: Engine, image: str) -> None:
        """The bill of materials has each library with the version that is installed, and ourselves."""
        program = (
            "import importlib.metadata as m, json; "
            "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
        )
        options = ("--rm", "--network", "none", "--entrypoint")
        installed = json.loads(engine.run("podman", "run", *options, "python3", image, "-c", program).stdout)
        told = engine.run("podman", "run", *options, "cat", image, "/opt/sse-kit/share/sbom.cdx.json").stdout
        document = json.loads(told)
        listed = {each["name"].lower().replace("_", "-"): each["version"] for each in document["components"]}
        own = document["metadata"]["component"]

        assert {"gunicorn", "falcon", "redis", "hiredis"} <= set(listed)
        assert (own["name"], own["version"]) == ("sse-kit", "0.1.0")
        assert listed | {own["name"]: own["version"]} == installed


class TestRunning:
    """A container of it, with a root that is read-only and without any right."""

    def test_it_streams_and_drains(self, engine: Engine, image: str) -> None:
        """It streams what is published; on TERM its streams are told when to come back, and it ends with 0."""
        with service(engine, image) as (container, port):
            status = container.execute("cat", "/proc/1/status").stdout
            stream_through(port, container.stop)
            log = container.logs()

        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert fields["Uid"].split() == ["10001"] * 4
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
        assert '"level": "error"' not in log
        assert "Read-only" not in log

    def test_its_health_check(self, engine: Engine, image: str) -> None:
        """The engine's own check says healthy; for a service that does not answer the command says why, with 1."""
        with service(engine, image) as (container, port):
            assert container.is_healthy()
            assert container.execute("sse-kit", "health", "--ready").returncode == 0
            other = free_port()
            sick = container.execute("sse-kit", "health", "--bind", f"127.0.0.1:{other}")

        assert port != other
        assert sick.returncode == 1
        assert f"no answer from http://127.0.0.1:{other}" in sick.stderr

    def test_a_unix_socket(self, engine: Engine, image: str) -> None:
        """On a socket in a shared folder another user's nginx can reach it, and the health check finds it."""
        shared = engine.root / "socket"
        shared.mkdir(mode=0o777)
        shared.chmod(0o777)
        path = "/run/sse-kit/gunicorn.sock"
        options = ("--env", f"SSE_KIT_BIND=unix:{path}", "--volume", f"{shared}:/run/sse-kit")
        with service(engine, image, *options) as (container, _):
            place = shared / "gunicorn.sock"
            with closing(StreamReader(str(place), "/events?topic=a", timeout=WAIT)) as reader:
                status = reader.status
            mode = place.stat().st_mode
            code = container.stop()

        assert (status, code) == (200, 0)
        assert mode & 0o666 == 0o666

    def test_its_client(self, engine: Engine, image: str) -> None:
        """The same image publishes and tells its version: any other command of sse-kit is an argument."""
        with service(engine, image) as (_, port):
            run = ("podman", "run", "--rm", "--network", "host", *CONFINED, image)
            published = engine.run(*run, "publish", "a", "hello", "--url", f"http://127.0.0.1:{port}")
            version = engine.run(*run, "--version")

        assert published.stdout.count("-") == 1
        assert version.stdout == "sse-kit, version 0.1.0\n"


#: Of compose.yaml without bridges, which cannot be had without tables of a packet filter; and health is asked for by the
#: test, since nothing runs podman's checks where systemd does not.
ON_THE_HOST = """\
services:
  nginx:
    network_mode: host
    networks: !reset null
    ports: !reset null
    # Those of processes too, or podman takes more than a container that we run in may have.
    ulimits: {{nproc: 20000}}
    volumes: ["{listen}:/etc/sse-kit/nginx/site/listen.conf:ro"]
  service:
    network_mode: host
    networks: !reset null
    image: {image}
    ulimits: {{nproc: 20000}}
    environment: {{SSE_KIT_BACKPLANE: "redis://:secret@127.0.0.1:{redis_port}/0"}}
    depends_on: {{redis: {{condition: service_started}}}}
  redis:
    network_mode: host
    networks: !reset null
    entrypoint: [sh, -c, 'exec redis-server /etc/sse-kit/redis.conf --requirepass "$$REDISCLI_AUTH" --port {redis_port}']
"""


class TestCompose:
    """compose.yaml, run by podman-compose."""

    def compose(self, engine: Engine, override: Path, *command: str, **environment: str) -> str:
        files = ("--file", str(ROOT / "compose.yaml"), "--file", str(override))
        run = (sys.executable, "-m", "podman_compose", "--in-pod", "false", *files, "--project-name", "test", *command)
        pairs = [f"{name}={value}" for name, value in environment.items()]
        done = engine.run("env", *pairs, *run, check=False)
        return done.stdout + done.stderr

    def test_it_runs(self, engine: Engine, image: str) -> None:
        """nginx, the service and Redis start, each read-only and without root; a stream passes, and all end with 0."""
        for name in re.findall(r"image: (docker\S+)", (ROOT / "compose.yaml").read_text("utf-8")):
            engine.run("podman", "tag", NEIGHBOURS, name)
        port, redis_port = free_port(), free_port()
        listen, override = engine.root / "listen.conf", engine.root / "host.yaml"
        listen.write_text(f"listen 127.0.0.1:{port} default_server;\nserver_name _;\n")
        override.write_text(ON_THE_HOST.format(listen=listen, image=image, redis_port=redis_port))
        secrets = {"REDIS_PASSWORD": "secret", "SSE_KIT_TOKENS": '{"ann": "0123456789abcdef"}'}
        nginx, service, redis = (Container(engine, f"test_{name}_1") for name in ("nginx", "service", "redis"))
        try:
            told = self.compose(engine, override, "up", "--detach", "--no-build", **secrets)
            wait_until(
                lambda: ask(port, "GET", "/readyz")[0] == 200, f"the service is ready behind nginx: {told}", WAIT
            )
            assert service.is_healthy()
            # podman 4.3 takes podman-compose's way to write a check for a list without its first word.
            checks = [
                nginx.execute(*(part.replace("8080", str(port)) for part in self.check("nginx"))),
                redis.execute("redis-cli", "-p", redis_port, *self.check("redis")[1:]),
            ]
            users = [each.execute("id", "-u").stdout.strip() for each in (nginx, service, redis)]
            written = [each.execute("touch", "/x").returncode for each in (nginx, service, redis)]
            assert ask(port, "POST", "/publish", {"topic": "a", "data": "x"})[0] == 401
            stream_through(port, service.stop, Authorization="Bearer 0123456789abcdef")
            codes = (nginx.stop(), redis.stop())
        finally:
            engine.remove_containers()

        assert [check.returncode for check in checks] == [0, 0], checks
        assert users == ["10001", "10001", "999"]
        assert 0 not in written
        assert codes == (0, 0)

    def check(self, name: str) -> list[str]:
        """The command of a health check in compose.yaml."""
        composed = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
        kind, *command = composed["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        return [str(part) for part in command]

    def test_it_wants_its_secrets(self, engine: Engine, image: str) -> None:
        """Without a password and tokens nothing starts, and the variable that is missing is named."""
        override = engine.root / "nothing.yaml"
        override.write_text("services: {}\n")
        missing = self.compose(engine, override, "config", REDIS_PASSWORD="", SSE_KIT_TOKENS="{}")

        assert "the password of Redis" in missing


class TestKubernetes:
    """The manifests of k8s/, run by podman on this machine: all but what is a cluster's."""

    def test_the_local_overlay(self, engine: Engine, image: str) -> None:
        """Redis, the service and nginx start from the manifests; a stream and a publish pass through; TERM drains."""
        manifests = text_of(K8S / "overlays/local")
        for name in set(re.findall(r"image: (\S+)", manifests)):
            engine.run("podman", "tag", image if "/sse-kit:" in name else NEIGHBOURS, name)
        http_port, redis_port = free_port(), free_port()
        for old, new in (("8080", http_port), ("8081", free_port())):
            assert f"listen 127.0.0.1:{old}" in manifests
            manifests = manifests.replace(f"listen 127.0.0.1:{old}", f"listen 127.0.0.1:{new}")
        assert "6380" in manifests
        manifests = manifests.replace("6380", str(redis_port))
        secrets = make_secrets(f"127.0.0.1:{redis_port}", "ann")
        for name, data in secrets.items():
            engine.run("podman", "secret", "create", name, "-", given=json.dumps(encoded(data)))
        token = json.loads(secrets["sse-kit"]["SSE_KIT_TOKENS"])["ann"]
        service, nginx, redis = (
            Container(engine, f"{pod}-pod-0-{name}")
            for pod, name in (("sse-kit", "service"), ("sse-kit", "nginx"), ("redis", "redis"))
        )
        try:
            engine.run("podman", "play", "kube", "-", given=manifests)
            wait_until(lambda: ask(http_port, "GET", "/readyz")[0] == 200, "the service is ready behind nginx", WAIT)
            assert service.is_healthy()
            assert redis.is_healthy()
            assert service.execute("touch", "/x").returncode != 0
            assert ask(http_port, "GET", "/topics")[0] == 401
            # In a cluster nginx is a sidecar and is told to stop last; here the order is ours.
            stream_through(http_port, service.stop, Authorization=f"Bearer {token}")
            codes = (nginx.stop(), redis.stop())
        finally:
            engine.remove_containers()
            engine.run("podman", "secret", "rm", *secrets)

        assert codes == (0, 0)
