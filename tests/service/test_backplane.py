"""The service on a real Redis: two of them, each with a worker of its own, are one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from sse_core.testing import Ledger
from sse_kit.backplane import check_backplane, describe
from sse_kit.settings import Settings
from tests.redisserver import RedisServer, redis_server, wait_until
from tests.servers import COMMAND, TIMEOUT, Answer, Server, running_service

SECRET = "s3cret-of-redis"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sse-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis with a password, for tests that leave it running."""
    with redis_server(folder, options=["--requirepass", SECRET]) as server:
        yield server


def url_of(redis: RedisServer, password: str = SECRET) -> str:
    return f"redis://:{password}@127.0.0.1:{redis.port}/0"


@pytest.fixture(scope="module")
def pair(redis: RedisServer) -> Iterator[tuple[Server, Server]]:
    """Two services on the same Redis."""
    settings = {"backplane": url_of(redis), "namespaces": ["orders"], "retry": 50, "drain_seconds": 0.2}
    with running_service(**settings) as one, running_service(**settings) as other:
        wait_until_ready(one)
        wait_until_ready(other)
        yield one, other


def wait_until_ready(server: Server) -> None:
    wait_until(lambda: server.request("GET", "/readyz").status == 200, "the service is ready")


def metric(server: Server, name: str) -> float:
    """One sample of the service's metrics, by its name with labels."""
    lines = server.request("GET", "/metrics").body.decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))


class TestTogether:
    def test_what_one_publishes_the_other_streams(self, pair: tuple[Server, Server]) -> None:
        """Streams of both services get what either publishes: all of it, once, in one order."""
        one, other = pair
        ledger = Ledger()
        with one.reader("/events?topic=both&topic=b") as first, other.reader("/events?topic=both&topic=b") as second:
            for name in ("first", "second"):
                ledger.subscribed(name, ["both", "b"], after="0-0")
            for number in range(50):
                topic = "both" if number % 3 else "b"
                ledger.published(topic, pair[number % 2].publish(topic, number), str(number))
            for name, reader in (("first", first), ("second", second)):
                for event in reader.read(50):
                    ledger.received(name, event)

        assert ledger.faults() == []
        assert ledger.told() == []

    def test_a_stream_resumes_at_the_other(self, pair: tuple[Server, Server]) -> None:
        """A client that lost one service goes on at the other exactly where it was."""
        one, other = pair
        with one.reader("/events?topic=resume") as reader:
            for number in range(10):
                one.publish("resume", number)
            seen = reader.read(4)
        with other.reader("/events?topic=resume", last_event_id=seen[-1].id) as reader:
            seen += reader.read(6)

        assert [event.data for event in seen] == [str(number) for number in range(10)]

    def test_a_key_counts_everywhere(self, pair: tuple[Server, Server]) -> None:
        """What was published through one is a duplicate at the other."""
        body = b'{"topic":"keys","data":1,"id":"the-same"}'
        first, second = (server.request("POST", "/publish", body, JSON).json() for server in pair)

        assert (first["duplicate"], second) == (False, {"id": first["id"], "duplicate": True})

    def test_namespaces_are_apart(self, pair: tuple[Server, Server]) -> None:
        """The same topic of two namespaces is two topics, on Redis too."""
        one, other = pair
        with one.reader("/n/orders/events?topic=apart") as orders, one.reader("/events?topic=apart") as plain:
            other.publish("apart", "plain")
            other.request("POST", "/n/orders/publish", b'{"topic":"apart","data":"orders"}', JSON)
            seen = [orders.read()[0].data, plain.read()[0].data]
        with other.reader("/n/orders/events?topic=apart&last_event_id=0-0") as reader:
            seen.append(reader.read()[0].data)

        assert seen == ["orders", "plain", "orders"]

    def test_other_programs_publish_without_http(self, redis: RedisServer, pair: tuple[Server, Server]) -> None:
        """The example of a program that publishes straight into Redis reaches the service's streams."""
        with pair[0].reader("/events?topic=direct") as reader:
            command = [sys.executable, "-m", "examples.redis_publish", url_of(redis), "direct", "It works"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
            (event,) = reader.read()

        assert (event.id, event.data) == (done.stdout.strip(), "It works")

    def test_who_listens_is_known_everywhere(self, pair: tuple[Server, Server]) -> None:
        """Either service tells the streams of both, by topic and by namespace, and how many take part."""
        one, other = pair
        with (
            one.reader("/events?topic=known/1"),
            other.reader("/events?topic=known/1&topic=known/2"),
            other.reader("/n/orders/events?topic=known/1"),
        ):
            expected = [{"topic": "known/1", "streams": 2}, {"topic": "known/2", "streams": 1}]
            for server in pair:
                wait_until(
                    lambda server=server: (  # type: ignore[misc]
                        server.request("GET", "/topics?prefix=known/").json()
                        == {"workers": 2, "total": 2, "topics": expected}
                    ),
                    "the numbers of both",
                )
            assert one.request("GET", "/topics/known/1").json()["streams"] == 2
            wait_until(
                lambda: one.request("GET", "/n/orders/topics/known/1").json()["streams"] == 1, "the other namespace's"
            )
        wait_until(
            lambda: one.request("GET", "/topics?prefix=known/").json()["total"] == 0, "streams that ended are gone"
        )

    def test_each_worker_tells_its_counters(self, pair: tuple[Server, Server]) -> None:
        """A viewer of the counters at one service gets those of both, each under its worker's name."""
        workers = set()
        with pair[0].reader("/events?topic=server/stats") as reader:
            for event in reader:
                stats = json.loads(event.data or "")
                workers.add(stats["worker"].rpartition(":")[2])
                assert stats["backplane_up"] == 2  # namespaces
                if len(workers) == 2:
                    break

        assert workers == {str(server.worker_pid) for server in pair}

    def test_each_worker_tells_its_metrics(self, pair: tuple[Server, Server]) -> None:
        """What charts are drawn of comes from both too, with what has been told before."""
        workers = set()
        with pair[1].reader("/events?topic=server/metric", last_event_id="0-0") as reader:
            while len(workers) < 2:
                (event,) = reader.read()
                workers.add(json.loads(event.data or "")["worker"].rpartition(":")[2])

        assert workers == {str(server.worker_pid) for server in pair}

    def test_the_password_is_nobodys_business(self, pair: tuple[Server, Server]) -> None:
        """The backplane's password is in no answer and in no line of the log."""
        one, _ = pair
        told = [one.request("GET", path).body for path in ("/metrics", "/readyz", "/topics", "/openapi.json")]
        with one.reader("/events?topic=server/stats") as reader:
            told.append((reader.read()[0].data or "").encode())

        assert SECRET.encode() not in b"".join(told)
        assert SECRET not in "".join(one.log)


def test_two_workers_of_one_service(redis: RedisServer) -> None:
    """With a backplane a service has several workers, and it does not matter which of them answers."""
    with running_service(backplane=url_of(redis), workers=2, namespaces=["two"], drain_seconds=0.2) as server:
        wait_until(lambda: server.request("GET", "/n/two/topics").json()["workers"] == 2, "both workers have joined")
        readers = [server.reader("/n/two/events?topic=a") for _ in range(20)]
        ids = [
            server.request("POST", "/n/two/publish", b'{"topic":"a","data":%d}' % number, JSON).json()["id"]
            for number in range(20)
        ]
        seen = [[event.id for event in reader.read(20)] for reader in readers]
        for reader in readers:
            reader.close()
        workers = set()
        with server.reader("/events?topic=server/stats") as stats:
            while len(workers) < 2:
                workers.add(json.loads(stats.read()[0].data or "")["worker"])
        assert server.stop() == 0

    assert seen == [ids] * 20


def test_a_restart_forgets_nothing(redis: RedisServer) -> None:
    """After a restart of the service a client resumes without a gap, and keys are still known."""
    body = b'{"topic":"kept","data":"key","id":"kept-key"}'
    with running_service(backplane=url_of(redis), drain_seconds=0.1) as server:
        first = server.publish("kept", "first")
        key = server.request("POST", "/publish", body, JSON).json()
        server.stop()
        server.start()
        with server.reader("/events?topic=kept", last_event_id=first) as reader:
            (event,) = reader.read()
        again = server.request("POST", "/publish", body, JSON).json()

    assert (event.event, event.data, event.id) == (None, "key", key["id"])
    assert again == {"id": key["id"], "duplicate": True}


class TestAway:
    """Redis stops answering."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Iterator[RedisServer]:
        """A Redis that may be stopped, and has what it answered when it comes back."""
        with redis_server(tmp_path, aof=True, options=["--requirepass", SECRET]) as server:
            yield server

    @pytest.fixture
    def server(self, own: RedisServer) -> Iterator[Server]:
        with running_service(
            backplane=url_of(own), backplane_timeout=0.5, retry=50, drain_seconds=0.2, drain_retry=[50, 60]
        ) as server:
            wait_until_ready(server)
            yield server

    def test_while_it_is_away(self, own: RedisServer, server: Server) -> None:
        """Publishing is unknown, readiness says no and names it, liveness says yes, streams stay open or are put off."""
        body = b'{"topic":"a","data":"meanwhile","id":"meanwhile"}'
        with server.reader("/events?topic=a") as reader:
            before = server.publish("a", "before")
            reader.read()
            own.pause()
            published = server.request("POST", "/publish", body, JSON)
            wait_until(lambda: server.request("GET", "/readyz").status == 503, "it is not ready")
            ready, alive = server.request("GET", "/readyz"), server.request("GET", "/healthz")
            listed = server.request("GET", "/topics")
            with server.reader("/events?topic=never-seen") as put_off:
                assert put_off.read_to_end() == []
            own.resume()
            wait_until_ready(server)
            again = server.request("POST", "/publish", body, JSON)
            (event,) = reader.read()

        assert_away(published)
        assert "unknown: repeat the request with the same id" in published.json()["detail"]
        assert_away(ready)
        assert f"redis://127.0.0.1:{own.port}/0" in ready.json()["detail"]
        assert_away(listed)
        assert alive.status == 200
        assert (put_off.status, put_off.retry in range(50, 61)) == (200, True)
        # Whatever became of the first attempt, the event is there once.
        assert (again.status, event.id, event.data) == (200, again.json()["id"], "meanwhile")
        assert event.id is not None
        assert event.id > before
        assert SECRET not in "".join(server.log) + str(published) + str(ready) + str(listed)

    def test_a_publisher_outlives_it(self, own: RedisServer, server: Server) -> None:
        """The command line publishes through an outage what it was given, once and in order."""
        with (
            server.reader("/events?topic=cli") as reader,
            subprocess.Popen(
                [*COMMAND, "publish", "cli", "--url", server.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as publisher,
        ):
            assert publisher.stdin is not None
            assert publisher.stdout is not None
            for number in range(30):
                print(number, file=publisher.stdin, flush=True)
                if number == 10:
                    publisher.stdout.readline()
                    own.kill()
                if number == 20:
                    own.start()
            publisher.stdin.close()
            events = reader.read(30)
            assert publisher.wait(TIMEOUT) == 0

        assert [event.data for event in events] == [str(number) for number in range(30)]

    def test_it_is_not_there_yet(self, own: RedisServer) -> None:
        """A service may be started before its Redis: it serves what it can, and is ready as soon as Redis is."""
        own.stop()
        with running_service(backplane=url_of(own), backplane_timeout=0.5, drain_seconds=0.2) as server:
            assert server.request("GET", "/healthz").status == 200
            assert_away(server.request("GET", "/readyz"))
            assert_away(server.request("POST", "/publish", b'{"topic":"a","data":1}', JSON))
            own.start()
            wait_until_ready(server)
            server.publish("a", 1)

    def test_a_wrong_password(self, own: RedisServer) -> None:
        """With a wrong password nothing is published and nobody is told which one it was; streams are put off."""
        wrong = "wrong-" + SECRET
        with running_service(backplane=url_of(own, wrong), backplane_timeout=0.5, drain_seconds=0.2) as server:
            answers = [
                server.request("GET", "/readyz"),
                server.request("GET", "/topics"),
                server.request("POST", "/publish", b'{"topic":"a","data":1}', JSON),
            ]
            with server.reader("/events?topic=a") as reader:
                assert reader.read_to_end() == []
            assert server.request("GET", "/healthz").status == 200
            server.stop()

        assert [answer.status for answer in answers] == [503, 503, 503]
        assert reader.status == 200
        assert SECRET not in "".join(server.log) + str(answers)


def assert_away(answer: Answer) -> None:
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["type"] == "urn:sse-kit:problem:backplane-away"


class TestSetting:
    @pytest.mark.parametrize(
        ("url", "described"),
        [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:pass@[::1]:6379", "redis://[::1]:6379"),
            ("rediss://user:p%40ss@redis.internal/1?ssl_cert_reqs=none", "rediss://redis.internal/1"),
            ("redis://host?password=pass", "redis://host"),
            ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
            ("unix://user:pass@/run/redis.sock", "unix:///run/redis.sock"),
            ("redis+sentinel://:pass@a:26379,b:26379/main/0", "redis+sentinel://a:26379,b:26379/main/0"),
            ("redis+cluster://a:6379,b:6379", "redis+cluster://a:6379,b:6379"),
            ("memory", "memory"),
            ("", "memory"),
        ],
    )
    def test_what_is_told_of_it(self, url: str, described: str) -> None:
        """A backplane is named by scheme, place and database: never by user, password or options."""
        assert describe(check_backplane(url)) == described

    @pytest.mark.parametrize(
        "url",
        [
            "redis",
            "http://:pass@host",
            "redis://",
            "redis://:pass@",
            "redis://:pa/ss@host",
            "redis://:pa@ss@host",
            "redis://:pa?ss@host",
            "redis://:pa#ss@host",
            "redis://host?password=p@ss",
            "unix+cluster:///pass",
        ],
    )
    def test_what_is_refused(self, url: str) -> None:
        """What could be read in two ways is refused with what is expected; the error has nothing of it, nor its repr."""
        with pytest.raises(ValidationError) as raised:
            Settings(backplane=url)  # type: ignore[arg-type]

        assert "redis://[[USER]:PASSWORD@]HOST" in str(raised.value)
        assert "pass" not in str(raised.value).replace("password", "").lower().replace("[user]:password@", "")
        assert "ss@host" not in str(raised.value) + repr(raised.value)

    def test_it_is_not_shown(self) -> None:
        """Settings that are printed do not tell the password."""
        settings = Settings(backplane=f"redis://:{SECRET}@host")  # type: ignore[arg-type]

        assert SECRET not in repr(settings) + str(settings) + str(settings.model_dump())

    @pytest.mark.parametrize(
        "options",
        [["--workers", "2"], ["--workers", "2", "--backplane", "memory"], ["--workers", "2", "--backplane", ""]],
    )
    def test_several_workers_need_one(self, options: list[str]) -> None:
        """Several workers in memory are refused, and the reason says what joins them."""
        done = subprocess.run([*COMMAND, "serve", *options], capture_output=True, text=True, timeout=TIMEOUT)

        assert done.returncode == 2
        assert "--backplane redis://HOST:PORT" in " ".join(done.stderr.split())

    @pytest.mark.parametrize(
        "url", [f"redis://:{SECRET}@host:port", f"redis://:{SECRET}@host/x", f"redis://:{SECRET}@a:1,b:1", f"x{SECRET}"]
    )
    def test_what_cannot_be_is_told_at_the_start(self, url: str) -> None:
        """A backplane that cannot be is wrong usage, told before anything is served, without its password."""
        done = subprocess.run([*COMMAND, "serve", "--backplane", url], capture_output=True, text=True, timeout=TIMEOUT)

        assert done.returncode == 2
        assert "backplane" in done.stderr
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr

    def test_the_environment(self) -> None:
        """The setting comes from the environment, where a command line would show it to everybody."""
        environment = {**os.environ, "SSE_KIT_BACKPLANE": f"redis://:{SECRET}@a:1,b:1"}
        done = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, timeout=TIMEOUT, env=environment)

        assert done.returncode == 2
        assert "several hosts" in " ".join(done.stderr.split())
        assert SECRET not in done.stderr
