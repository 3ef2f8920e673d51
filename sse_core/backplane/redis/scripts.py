"""The Lua scripts beside this file: what has to happen at one moment, in one order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NoReturn

import redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError, ResponseError

from sse_core.errors import ConfigurationError, EventError, TopicError

Arguments = Sequence[str | bytes | int]
#: The fields of an event that a script can refuse, by the names that an `Event` has for them.
_FIELDS = {"key": "id", "event": "event", "comment": "comment", "retry": "retry", "data": "data"}


class Script:
    """One script. Redis forgets them when it restarts or fails over, so each call is ready to bring it. Thread-safe."""

    def __init__(self, name: str) -> None:
        self.text = files("sse_core.backplane.redis").joinpath(f"{name}.lua").read_text("utf-8")
        self.digest = hashlib.sha1(self.text.encode()).hexdigest()

    def run(self, client: redis.Redis | redis.RedisCluster, key: bytes, arguments: Arguments) -> Any:
        """Run it and return the reply. Raises what redis-py raises, and what a refusal means (see `raise_refusal`)."""
        try:
            try:
                return client.evalsha(self.digest, 1, key, *arguments)
            except NoScriptError:
                # It was not run, so nothing can happen twice.
                return client.eval(self.text, 1, key, *arguments)
        except ResponseError as error:
            raise_refusal(error)

    def run_and_wait(
        self, client: redis.Redis, key: bytes, arguments: Arguments, replicas: int, timeout_ms: int
    ) -> tuple[Any, int]:
        """The same, and wait for replicas. Return the reply, and how many replicas have it."""
        # WAIT is about what was written on its own connection, and a pipeline has one.
        reply, acknowledged = self._pipelined(
            client, key, [arguments], lambda pipeline: pipeline.wait(replicas, timeout_ms)
        )
        return reply, int(acknowledged)

    def run_many(self, client: redis.Redis, key: bytes, calls: Sequence[Arguments]) -> list[Any]:
        """Run it once for each of ``calls``, in one round trip."""
        return self._pipelined(client, key, calls)

    def _pipelined(
        self,
        client: redis.Redis,
        key: bytes,
        calls: Sequence[Arguments],
        then: Callable[[Pipeline], object] = lambda pipeline: None,
    ) -> list[Any]:
        replies: list[Any] = []
        for is_known in (True, False):
            with client.pipeline(transaction=False) as pipeline:
                run = pipeline.evalsha if is_known else pipeline.eval
                for arguments in calls:
                    run(self.digest if is_known else self.text, 1, key, *arguments)
                then(pipeline)
                replies = pipeline.execute(raise_on_error=False)
            if not any(isinstance(reply, NoScriptError) for reply in replies):
                break
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise_refusal(reply)
            if isinstance(reply, Exception):
                raise reply
        return replies


def raise_refusal(error: ResponseError) -> NoReturn:
    """Raise what a script's refusal means: `TopicError`, `EventError`, `ConfigurationError`. Other errors stay as they are."""
    text = str(error)
    if not text.startswith("SSE "):
        raise error
    field, _, reason = text.removeprefix("SSE ").partition(": ")
    if field == "topic":
        raise TopicError(f"a topic's name {reason}") from error
    if field in _FIELDS:
        raise EventError(_FIELDS[field], reason) from error
    raise ConfigurationError(f"{field}: {reason}") from error


PUBLISH = Script("publish")
BEAT = Script("beat")
HISTORY = Script("history")
LEASE = Script("lease")
