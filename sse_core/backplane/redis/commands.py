"""What this kit asks of Redis: typed, stateless functions over one client.

They take a `redis.Redis` with ``decode_responses=False`` that speaks to the primary of the namespace's slot, and are as
thread-safe as it is. Errors of redis-py are let through, but for what a script refuses: `EventError`, `TopicError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import redis

from sse_core.backplane import MOST_TEXTS, Receipt
from sse_core.backplane.redis.audience import (
    audience,
    leave,
    presence,
    report,
    report_sent,
    sent,
    workers,
)
from sse_core.backplane.redis.message import Entry, MessageError, entry, parse_number
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import BEAT, HISTORY, LEASE, PUBLISH
from sse_core.errors import BackplaneError
from sse_core.event import Event
from sse_core.ids import format_id

__all__ = [
    "Clock",
    "History",
    "Item",
    "Wanted",
    "audience",
    "beat",
    "clock",
    "history",
    "hold_lease",
    "is_held",
    "keys_evicted",
    "leave",
    "presence",
    "publish",
    "recall",
    "release_lease",
    "remember",
    "report",
    "report_sent",
    "sent",
    "topic_of",
    "workers",
]

#: Histories that are asked for in one round trip: what they hold is in memory at once.
_HISTORIES = 32


class Item(NamedTuple):
    """What is to be published: ``event.id`` is its idempotency key. ``age_ms`` 0 is no bound."""

    topic: str
    event: Event
    max_events: int
    age_ms: int


class Clock(NamedTuple):
    """A namespace's clock: the last id that was given, and the id before the first one. Numbers, see `sse_core.ids`."""

    last: int
    born: int


class Wanted(NamedTuple):
    """The history of a topic after an id, within bounds. ``age_ms`` 0 is no bound."""

    topic: str
    after: int
    max_events: int
    max_bytes: int
    age_ms: int


class History(NamedTuple):
    """Entries, oldest first. Nothing of the topic that is after ``floor`` is missing, up to the id that was asked for."""

    floor: int
    entries: list[Entry]


def publish(
    client: redis.Redis,
    names: Names,
    items: Iterable[Item],
    *,
    batch_key: str,
    key_window_ms: int,
    max_keys: int,
    replicas: int = 0,
    replicas_timeout_ms: int = 0,
) -> list[Receipt]:
    """Publish events in order, all of them or none, and return a receipt for each.

    ``batch_key`` makes the whole call repeatable: within the window the same key gives the receipts of the first call.
    ``replicas`` waits on the same connection until so many replicas have it, at most ``replicas_timeout_ms`` (which has to
    be shorter than the client's timeout). Fewer raise `BackplaneError`: it is published, but may be lost with the primary.
    """
    arguments = publish_arguments(items, batch_key=batch_key, key_window_ms=key_window_ms, max_keys=max_keys)
    if not replicas:
        return receipts(PUBLISH.run(client, names.clock, arguments))
    reply, acknowledged = PUBLISH.run_and_wait(client, names.clock, arguments, replicas, replicas_timeout_ms)
    if acknowledged < replicas:
        raise BackplaneError(1.0, f"{acknowledged} of {replicas} replicas have acknowledged what was published")
    return receipts(reply)


def publish_arguments(
    items: Iterable[Item], *, batch_key: str, key_window_ms: int, max_keys: int
) -> list[str | bytes | int]:
    """The arguments of publish.lua after its key."""
    arguments: list[str | bytes | int] = [batch_key, key_window_ms, max_keys]
    for topic, event, max_events, age_ms in items:
        retry = event.retry
        arguments += (
            # Encoded here, since a client of somebody else's may have another encoding.
            topic.encode(),
            max_events,
            age_ms,
            (event.id or "").encode(),
            (event.event or "").encode(),
            (event.comment or "").encode(),
            "" if retry is None else retry,
            (event.data or "").encode(),
        )
    return arguments


def receipts(reply: Sequence[Any]) -> list[Receipt]:
    """What publish.lua returned, to a client that decodes responses or to one that does not."""
    ids = (each if isinstance(each, str) else each.decode() for each in reply[::2])
    return [Receipt(id, bool(duplicate)) for id, duplicate in zip(ids, reply[1::2], strict=True)]


def beat(client: redis.Redis, names: Names, *, interval_ms: int) -> Clock:
    """Move the namespace's clock to the present and publish a beat, unless one was published within the interval.

    A namespace that does not exist is made.
    """
    last, born, _ = BEAT.run(client, names.clock, (interval_ms,))
    return Clock(_number(last), _number(born))


def clock(client: redis.Redis, names: Names) -> Clock | None:
    """The namespace's clock, or None if there is no such namespace (yet, or because Redis has lost it)."""
    last, born = client.hmget(names.clock, ["last", "born"])
    return None if last is None or born is None else Clock(_number(last), _number(born))


def keys_evicted(client: redis.Redis, names: Names) -> int:
    """How many idempotency keys were forgotten before their window had passed, because there were too many of them."""
    return int(client.hget(names.clock, "evicted_keys") or 0)


def history(client: redis.Redis, names: Names, wanted: Sequence[Wanted], until: int) -> list[History]:
    """The history of topics up to an id, each within its bounds. Many are asked for in few round trips."""
    calls = [
        (each.topic, format_id(each.after), format_id(until), each.max_events, each.max_bytes, each.age_ms)
        for each in wanted
    ]
    found: list[History] = []
    for at in range(0, len(calls), _HISTORIES):
        found += map(_history, HISTORY.run_many(client, names.clock, calls[at : at + _HISTORIES]))
    return found


def _history(reply: list[Any]) -> History:
    floor = _number(reply[0])
    entries: list[Entry] = []
    for id, fields in reply[1:]:
        try:
            found = entry(id, fields)
        except MessageError as error:
            # What cannot be delivered is missing, and what is older is on the wrong side of that gap. Without a number it is
            # no event of ours at all.
            if error.number is not None:
                floor = error.number
                entries.clear()
            continue
        if found.before > (entries[-1].number if entries else floor):
            # Something was taken out of the middle.
            floor = found.before
            entries.clear()
        entries.append(found)
    return History(floor, entries)


def hold_lease(
    client: redis.Redis, names: Names, lease: str, owner: str, seconds: float, note: str | None = None
) -> tuple[bool, str | None]:
    """Take or renew a lease for some seconds; return whether ``owner`` has it, and the note that is kept with it.

    ``note`` replaces the note of ``owner``. Who takes the lease over from another gets the other's note instead.
    """
    milliseconds = max(1, round(seconds * 1000))
    held, kept = LEASE.run(client, names.lease(lease), (owner, milliseconds, int(note is not None), note or ""))
    return bool(held), None if kept is None else kept.decode()


def release_lease(client: redis.Redis, names: Names, lease: str, owner: str) -> None:
    """Give a lease back; its note stays. Nothing happens if ``owner`` does not have it."""
    LEASE.run(client, names.lease(lease), (owner, 0, 0, ""))


def is_held(client: redis.Redis, names: Names, lease: str) -> bool:
    """Whether anybody has a lease."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hget(names.lease(lease), "until")
        (seconds, microseconds), until = pipeline.execute()
    now: int = seconds * 1000 + microseconds // 1000
    return int(until or 0) > now


def remember(client: redis.Redis, names: Names, name: str, text: str, seconds: float) -> None:
    """Keep a text under a name, before those that are there, of which the oldest go. The name is kept for so long."""
    key = names.texts(name)
    with client.pipeline(transaction=True) as pipeline:
        # What is tried again is there once.
        pipeline.lrem(key, 0, text)
        pipeline.lpush(key, text)
        pipeline.ltrim(key, 0, MOST_TEXTS - 1)
        pipeline.pexpire(key, max(1, round(seconds * 1000)))
        pipeline.execute()


def recall(client: redis.Redis, names: Names, name: str) -> list[str]:
    """The texts that are kept under a name, the newest first."""
    found = client.lrange(names.texts(name), 0, MOST_TEXTS - 1)
    return [text.decode() if isinstance(text, bytes) else text for text in found]


def topic_of(client: redis.Redis, names: Names, number: int, topics: Sequence[str]) -> str | None:
    """Which of these topics has an event with this id (a number) in its history, if any."""
    id = format_id(number)
    with client.pipeline(transaction=False) as pipeline:
        for topic in topics:
            pipeline.xrange(names.topic(topic), id, id)
        return next((topic for topic, found in zip(topics, pipeline.execute(), strict=True) if found), None)


def _number(id: bytes | str) -> int:
    number = parse_number(id if isinstance(id, bytes) else id.encode())
    if number is None:
        raise MessageError(None, f"{id!r} is no id, but stands where an id belongs")
    return number
