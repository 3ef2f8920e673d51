"""What docs/redis.md says: its commands run through redis-cli, its tables are what lies in Redis."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sse_core.backplane.redis import commands, message, scripts
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.publisher import publish
from sse_core.errors import BackplaneError
from sse_core.event import Event
from sse_core.ids import parse_id
from tests.backplane.redis.listening import Listener
from tests.redisserver import TIMEOUT, RedisServer

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "sse_core" / "backplane" / "redis"
TEXT = (ROOT / "docs" / "redis.md").read_text("utf-8")
LINES = re.findall(r"^(redis-cli .*)$", TEXT, flags=re.MULTILINE)


def run(server: RedisServer, line: str) -> list[str]:
    """Run a line of the document as a shell would, on the server of the tests; return what it printed."""
    command, *arguments = shlex.split(line)
    done = subprocess.run(
        [command, "-p", str(server.port), *arguments], cwd=SCRIPTS, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def published() -> list[str]:
    return [line for line in LINES if "publish.lua" in line]


def rows() -> Iterator[tuple[list[str], str]]:
    """The keys of the table, and when they expire."""
    for line in TEXT.partition("| key | type |")[2].partition("\n\n")[0].splitlines()[2:]:
        names, _, _, expires = (cell.strip() for cell in line.strip("|").split("|"))
        yield re.findall(r"`([^`]+)`", names), expires


class TestCommands:
    """Commands to copy."""

    def test_one_event_is_published_by_redis_cli(
        self, server: RedisServer, client: redis.Redis, listener: Listener
    ) -> None:
        """The first example is one event, and those who listen get it."""
        names = Names("default")
        listener.listen(names.live("orders"))
        id, duplicate = run(server, published()[0])
        ((_, payload),) = listener.take(1)
        (entry,) = message.decode(payload)

        assert (entry.number, entry.event) == (parse_id(id), Event("hello"))
        assert duplicate == "0"
        assert client.xlen(names.topic("orders")) == 1

    def test_a_batch_is_published_by_redis_cli(self, server: RedisServer, client: redis.Redis) -> None:
        """The second example has every argument that there is, and run again it publishes nothing."""
        names = Names("default")
        first = run(server, published()[1])
        again = run(server, published()[1])
        wanted = [commands.Wanted(topic, 0, 10, 1000, 0) for topic in ("orders", "orders/7")]
        found = commands.history(client, names, wanted, 2**64 - 1)

        assert again == first
        assert first[1::2] == ["0", "0"]
        assert [[entry.event for entry in each.entries] for each in found] == [
            [Event('{"order":7}', event="order")],
            [Event('{"state":"shipped"}', event="order", retry=5000)],
        ]

    def test_a_refusal_is_told_to_redis_cli(self, server: RedisServer, client: redis.Redis) -> None:
        """The error that the document quotes is what a caller gets."""
        line = published()[0].replace("'' '' '' '' 'hello'", "'' 'a\nb' '' '' 'hello'")

        assert run(server, line) == ["SSE event: must not contain CR or LF", ""]
        assert client.keys("*") == []

    def test_the_docstring_s_example_is_the_document_s(self) -> None:
        """Both places that show the call show the same one."""
        assert publish.__doc__ is not None
        assert published()[0] in publish.__doc__

    def test_the_rights_of_the_document_s_user_suffice(
        self, server: RedisServer, client: redis.Redis, names: Names
    ) -> None:
        """Everything the kit asks of Redis is allowed to that user, and flushing is not."""
        (line,) = (line for line in LINES if "ACL" in line)
        assert run(server, line) == ["OK"]
        try:
            own = server.client(username="sse-kit", password="secret", client_name="sse-kit")
            listener = Listener(own)
            listener.listen(names.beat, names.live("a"))
            use_everything(own, names)
            item = commands.Item("a", Event("x"), 5, 0)
            with pytest.raises(BackplaneError, match="0 of 1 replicas"):
                commands.publish(
                    own, names, [item], batch_key="", key_window_ms=1, max_keys=2, replicas=1, replicas_timeout_ms=1
                )
            # Allowed, though this server has no answer.
            with pytest.raises(redis.ResponseError, match="cluster support disabled"):
                own.execute_command("CLUSTER SLOTS")
            listener.close()
            with pytest.raises(redis.exceptions.NoPermissionError):
                own.flushall()
        finally:
            client.execute_command("ACL", "DELUSER", "sse-kit")


def use_everything(client: redis.Redis, names: Names) -> None:
    """Call each command, on the paths that touch most."""
    for i in range(8):
        items = [
            commands.Item("a", Event("x", id=f"{i} {j}", event="e", comment="c", retry=1), 5, 3_600_000 * (j % 2))
            for j in range(4)
        ]
        commands.publish(
            client, names, items, batch_key=f"b{i}", key_window_ms=60_000, max_keys=6, replicas_timeout_ms=1
        )
    clock = commands.beat(client, names, interval_ms=0)
    commands.history(client, names, [commands.Wanted("a", 0, 5, 100, 0)], clock.last)
    commands.clock(client, names)
    commands.keys_evicted(client, names)
    commands.hold_lease(client, names, "l", "me", 5, "note")
    commands.release_lease(client, names, "l", "me")
    commands.is_held(client, names, "l")
    commands.remember(client, names, "r", "run/1", 60)
    commands.recall(client, names, "r")
    for whole in (True, False):
        commands.report(client, names, "w", {"a": 1, "b": 1 - whole}, {("a", "me"): 1}, whole=whole, seconds=60)
    commands.report(client, names, "gone", {}, {}, whole=True, seconds=60)
    for worker in ("w", "gone"):
        commands.report_sent(client, names, worker, {"run/1": 1}, seconds=60)
    commands.sent(client, names, ["run/1"], but="me")
    commands.audience(client, names)
    commands.audience(client, names, ["a"])
    commands.presence(client, names, "a")
    commands.leave(client, names, "gone")


class TestTables:
    """What is said of keys."""

    def test_every_key_is_in_the_table(self, client: redis.Redis, names: Names) -> None:
        """Whoever looks into Redis finds each key explained, and whether it goes by itself."""
        use_everything(client, names)
        table = {
            name.replace("{N}", f"{{{names.namespace}}}")
            .replace(":T", ":a")
            .replace(":L", ":l")
            .replace(":W", ":w")
            .replace(":R", ":r"): expires
            for keys, expires in rows()
            for name in keys
        }
        ttls = {key.decode(): client.pttl(key) for key in client.keys("*")}

        assert set(ttls) == set(table)
        assert {key for key, expires in table.items() if expires == "never"} == {names.clock.decode()}
        assert [key for key, ttl in ttls.items() if ttl < 0] == [names.clock.decode()]

    def test_every_field_of_the_clock_is_in_the_table(self, client: redis.Redis, names: Names) -> None:
        """The one key that stays has nothing unexplained in it."""
        use_everything(client, names)
        (line,) = (line for line in TEXT.splitlines() if line.startswith("| `{N}:clock`"))
        told = set(re.findall(r"`(\w+)`", line))

        assert {field.decode() for field in client.hgetall(names.clock)} == told

    def test_every_script_is_said_to_be_lua(self) -> None:
        """A first line by which Redis checks memory, disk and replicas before it begins, not in the middle."""
        for script in (scripts.PUBLISH, scripts.BEAT, scripts.HISTORY, scripts.LEASE):
            assert script.text.startswith("#!lua")
