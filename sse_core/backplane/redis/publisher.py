"""Publishing from programs that serve no streams: a Celery task, a cron job, a script. No hub, no thread, no HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from redis import Redis, RedisCluster
from redis.exceptions import RedisClusterException

from sse_core.backplane import Receipt
from sse_core.backplane.redis.commands import Item, publish_arguments, receipts
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import PUBLISH
from sse_core.backplane.redis.topology import is_retryable
from sse_core.errors import BackplaneError
from sse_core.event import Event
from sse_core.publication import check_item, to_event
from sse_core.topics import TopicOptions, TopicRules

_DEFAULTS = TopicOptions()


def publish(
    redis: Redis | RedisCluster,
    topic: str,
    data: object,
    *,
    event: str | None = None,
    id: str | None = None,
    retry: int | None = None,
    namespace: str = "default",
    options: TopicOptions = _DEFAULTS,
    key_window: float = 120.0,
    max_keys: int = 200_000,
) -> Receipt:
    """Publish one event with a redis-py client of your own and return its receipt.

    ``redis`` is a ``Redis`` or a ``RedisCluster``, whatever its ``decode_responses``; with Sentinel, what its
    ``master_for`` returned. ``data`` is what `Event` takes, or an `Event` (then without keywords). ``id`` is an
    idempotency key: within ``key_window`` (seconds) the same key returns the first event's receipt. ``options``,
    ``key_window`` and ``max_keys`` should be those of the hubs of the namespace: they bound what Redis keeps.

    Thread-safe. Raises `EventError`, `TopicError`, `ConfigurationError`, and `BackplaneError` where Redis is away: whether
    it was published is unknown then, and repeating the call with the same ``id`` is safe. Other errors are redis-py's.

    Without Python, where ``publish.lua`` is the file beside this module::

        redis-cli --eval publish.lua '{default}:clock' , '' 120000 200000 orders 1000 3600000 '' '' '' '' 'hello'
    """
    item = topic, to_event(data, event=event, id=id, retry=retry)
    (receipt,) = publish_many(
        redis, [item], namespace=namespace, options=options, key_window=key_window, max_keys=max_keys
    )
    return receipt


def publish_many(
    redis: Redis | RedisCluster,
    items: Iterable[tuple[str, Event]],
    *,
    namespace: str = "default",
    options: TopicOptions | Mapping[str, TopicOptions] = _DEFAULTS,
    key_window: float = 120.0,
    max_keys: int = 200_000,
) -> list[Receipt]:
    """Publish `(topic, Event)` items in order, all of them or none; see `publish`.

    ``options`` may map shell-style patterns to the options of topics, as `Hub` takes them. All goes in one call, which
    keeps Redis busy for some microseconds an event: thousands of events are better published in several.
    """
    names = Names(namespace)
    rules = TopicRules(options if isinstance(options, Mapping) else {"*": options})
    asked = []
    for topic, event in items:
        check_item(topic, event)
        bounds = rules.options(topic)
        asked.append(Item(topic, event, bounds.history_events, round(bounds.history_age * 1000)))
    if not asked:
        return []
    # redis-py repeats a call whose answer was lost; with a key the second one publishes nothing.
    key = secrets.token_hex(8)
    arguments = publish_arguments(
        asked, batch_key=key, key_window_ms=max(1, round(key_window * 1000)), max_keys=max_keys
    )
    try:
        return receipts(PUBLISH.run(redis, names.clock, arguments))
    except Exception as error:
        if is_retryable(error) or isinstance(error, RedisClusterException):
            raise BackplaneError(1.0, f"Redis did not publish: {error}") from error
        raise
