"""Who listens, over all processes: each worker reports its own streams, in keys that expire when it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError

from sse_core.backplane.redis.names import Names

#: Fields of one command: a long one keeps everybody else waiting.
_FIELDS = 500


def report(
    client: redis.Redis,
    names: Names,
    worker: str,
    streams: Mapping[str, int],
    present: Mapping[tuple[str, str], int],
    *,
    whole: bool,
    seconds: float,
) -> bool:
    """Tell how many streams a worker has by topic, and by (topic, subject); it holds for some seconds.

    ``whole`` replaces all that the worker told before. Otherwise only what changed is given, and 0 takes a topic or a
    subject away. False: nothing was changed, and the whole has to be told. What was told before has expired, or Redis is
    full: numbers are the first to go then.
    """
    milliseconds = max(1, round(seconds * 1000))
    now = _now(client)
    if not whole:
        expiry = client.zscore(names.workers, worker)
        if expiry is None or expiry <= now:
            return False
    with client.pipeline(transaction=True) as pipeline:
        for key, counts in (
            (names.worker(worker), streams.items()),
            (names.present(worker), ((_field(*who), count) for who, count in present.items())),
        ):
            if whole:
                pipeline.delete(key)
            _write(pipeline, key, counts)
            pipeline.pexpire(key, milliseconds)
        pipeline.zremrangebyscore(names.workers, "-inf", now)
        pipeline.zadd(names.workers, {worker: now + milliseconds})
        # By the longest that any worker has told, or one with a short time would take the others away.
        pipeline.pexpire(names.workers, milliseconds, nx=True)
        pipeline.pexpire(names.workers, milliseconds, gt=True)
        try:
            pipeline.execute()
        except OutOfMemoryError:
            return False
    return True


def report_sent(client: redis.Redis, names: Names, worker: str, sent: Mapping[str, int], *, seconds: float) -> None:
    """Tell up to which id (a number) a worker has sent each finite topic to all of its streams; it holds for so long."""
    key = names.sent(worker)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        _write(pipeline, key, sent.items())
        pipeline.pexpire(key, max(1, round(seconds * 1000)))
        pipeline.execute()


def sent(client: redis.Redis, names: Names, topics: Sequence[str], *, but: str) -> dict[str, int]:
    """Of those topics that have streams: up to which id all workers but one have sent them, as far as they told."""
    least: dict[str, int] = {}
    others = [worker for worker in workers(client, names) if worker != but]
    if not topics or not others:
        return least
    with client.pipeline(transaction=False) as pipeline:
        for worker in others:
            pipeline.hmget(names.sent(worker), list(topics))
        for reply in pipeline.execute():
            for topic, number in zip(topics, reply, strict=True):
                if number is not None:
                    least[topic] = min(int(number), least.get(topic, int(number)))
    return least


def leave(client: redis.Redis, names: Names, worker: str) -> None:
    """Take a worker away at once, with all that it told."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(names.worker(worker), names.present(worker), names.sent(worker))
        pipeline.zrem(names.workers, worker)
        pipeline.execute()


def workers(client: redis.Redis, names: Names) -> list[str]:
    """The workers that are alive, in the order of their names."""
    return sorted(_text(each) for each in client.zrangebyscore(names.workers, f"({_now(client)}", "+inf"))


def audience(client: redis.Redis, names: Names, topics: Sequence[str] | None = None) -> dict[str, int]:
    """How many streams each topic has over all workers: of ``topics``, or of all topics that have any."""
    totals: dict[str, int] = {} if topics is None else dict.fromkeys(topics, 0)
    asked = list(totals)
    if topics is not None and not asked:
        return totals
    with client.pipeline(transaction=False) as pipeline:
        for worker in workers(client, names):
            if topics is None:
                pipeline.hgetall(names.worker(worker))
            else:
                pipeline.hmget(names.worker(worker), asked)
        for reply in pipeline.execute():
            counts = reply.items() if topics is None else zip(asked, reply, strict=True)
            for topic, count in counts:
                name = _text(topic)
                totals[name] = totals.get(name, 0) + int(count or 0)
    return totals


def presence(client: redis.Redis, names: Names, topic: str) -> dict[str, int]:
    """Who is on a topic, over all workers: how many streams each subject has there."""
    totals: dict[str, int] = {}
    # A field is the JSON of [topic, subject], so this is how all fields of the topic begin.
    pattern = _escape(json.dumps([topic], ensure_ascii=False)[:-1]) + ", *"
    for worker in workers(client, names):
        # A scan may tell a field twice.
        found = dict(client.hscan_iter(names.present(worker), match=pattern, count=1000))
        for field, count in found.items():
            subject = json.loads(field)[1]
            totals[subject] = totals.get(subject, 0) + int(count)
    return totals


def _field(topic: str, subject: str) -> str:
    return json.dumps([topic, subject], ensure_ascii=False)


def _escape(text: str) -> str:
    """A pattern of Redis that matches this text alone."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def _write(pipeline: Pipeline, key: bytes, counts: Iterable[tuple[str, int]]) -> None:
    rest = iter(counts)
    while some := list(islice(rest, _FIELDS)):
        if held := [part for pair in some if pair[1] > 0 for part in pair]:
            pipeline.hset(key, items=held)
        if gone := [field for field, count in some if count <= 0]:
            pipeline.hdel(key, *gone)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _now(client: redis.Redis) -> int:
    """The time of Redis, in milliseconds: clocks of workers may differ by more than a report holds."""
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds // 1000
