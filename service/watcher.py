"""Watches keys of a Redis and publishes their values when they change, whatever the number of viewers and of workers.

1. Of several workers one watches: it is a `Duty`. It has one connection that listens, for all keys, and publishes a change
   once, on the topic ``watch/{key}``, of which the newest event counts.
2. What says that a key was touched is a keyspace notification. It only makes the watcher look: what is published is what
   was read, and only if it differs from what was published last. So values in between may be left out, never the last one.
3. Notifications can be lost (with the connection), switched off, and FLUSHALL sends none. So a key is read when its
   subscription is confirmed, which it is again after every reconnect; all keys are read each `READ_SECONDS`; and where
   the server sends no notifications, each ``watch_interval``.
4. The note says what was published last, key by key, or that this is not known: that is noted first. So whoever takes over
   does not publish the same value again, and misses none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
import structlog
from redis import Redis, RedisError
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from sse_core import Event, Hub, redis_client

from .duty import Duty, StepAsideError
from .settings import Settings
from .topics import WATCH_PREFIX

# Keyspace events (K) of strings ($), of all types (g: DEL, EXPIRE, RENAME), of what expired (x) and was evicted (e).
FLAGS = "K$gxe"
FLAGS_SETTING = "notify-keyspace-events"
# What the flag A stands for, as far as it matters here.
ALL_FLAGS = "$gxe"

LOOK_SECONDS = 0.25  # The longest wait for a notification: so quickly it is seen that all is over.
READ_SECONDS = 30.0  # How often all keys are read though notifications work.
RETRY_SECONDS = 1.0  # The pause after Redis was found to be away, in which another worker may try.
MOST_MESSAGES = 1000  # Notifications that are taken before the keys are read: many of one key are one change.

_log = structlog.get_logger("sse_kit.watcher")


class Shown(NamedTuple):
    """What was published last for a key: its number, and what it said. No ``digest``: that is not known."""

    number: int
    digest: str


class Content(NamedTuple):
    """What a key has to say now: an event's name (None: ``message``) and data, without the time."""

    event: str | None
    data: Mapping[str, Any]

    def digest(self) -> str:
        """Equal for contents that are equal."""
        return blake2b(msgspec.json.encode(self), digest_size=8).hexdigest()


class Watcher:
    """The source (see `topics`) of all topics ``watch/{key}``, one for each of the setting ``watch_keys``."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        """Raises `ConfigurationError` for a URL that cannot be. Nothing is connected here."""
        self._client: Redis = redis_client(settings.watch_place, timeout=settings.backplane_timeout)
        self._interval = settings.watch_interval
        self._pause = settings.watch_pause
        self._configure = settings.watch_configure
        self._max_bytes = settings.max_watch_value_bytes
        database = self._client.connection_pool.connection_kwargs.get("db", 0)
        self._key_of = {f"__keyspace@{database}__:{key}".encode(): key for key in settings.watch_keys}
        self._keys = frozenset(settings.watch_keys)
        # At random: nobody who publishes can guess the keys of events, and so keep them from being published.
        self._token = ""
        self._shown: dict[str, Shown] = {}
        #: Events that this process has published.
        self.changes = 0
        # Why the server's notifications do not suffice; None if they do, "" before that was asked.
        self._silence: str | None = ""
        self._is_away = False
        self._duty = Duty(
            "watch",
            hub,
            begin=self._begin,
            work=self._work,
            end=lambda: None,
            joins_processes=settings.joins_processes,
            # With the note the history is gone, and with it the values that a new viewer gets first.
            restores_note=False,
        )

    @property
    def is_holder(self) -> bool:
        """Whether this process is the one that watches."""
        return self._duty.is_holder

    @property
    def is_notified(self) -> bool:
        """Whether the server sends the notifications that are needed, as far as this process knows."""
        return self._silence is None

    def start(self) -> None:
        """Start watching, unless started. The values are published when this returns, unless that takes over a second."""
        self._duty.start()

    def close(self) -> None:
        """Stop watching, let another worker go on, and close the connections."""
        self._duty.close()
        self._client.close()

    # ---- the thread ----

    def _begin(self, note: str | None) -> None:
        self._token, self._shown = _read_note(note) or (token_hex(8), {})

    def _work(self) -> None:
        try:
            with self._client.pubsub() as pubsub:
                self._watch(pubsub)
        except (RedisError, OSError) as error:
            # Each time would fill the log while it is away.
            if not self._is_away:
                _log.warning("the server of the watched keys cannot be asked; trying again", reason=str(error))
            self._is_away = True
            raise StepAsideError(RETRY_SECONDS) from error

    def _watch(self, pubsub: PubSub) -> None:
        pubsub.subscribe(*self._key_of)
        touched = set(self._keys)
        read_at = pinged_at = 0.0
        while not self._duty.is_over():
            self._duty.renew()
            now = time.monotonic()
            if now >= read_at:
                if pinged_at:
                    raise RedisConnectionError("the connection that listens does not answer")
                self._look_at_flags()
                # Its answer is due before the next time: a connection that is cut off would else be silent for ever.
                pubsub.ping()
                pinged_at = now
                touched |= self._keys
                read_at = now + (READ_SECONDS if self._silence is None else self._interval)
            if touched:
                published = self._publish(self._read(touched))
                touched.clear()
                self._duty.ready()
                if self._is_away:
                    _log.info("the server of the watched keys answers again")
                    self._is_away = False
                if published:
                    # What is touched meanwhile waits and is one change: the bound on how often a key is published.
                    self._duty.stopped.wait(self._pause)
            wait = max(0.0, min(LOOK_SECONDS, read_at - time.monotonic()))
            for message in self._messages(pubsub, wait):
                if message["type"] == "pong":
                    pinged_at = 0.0
                elif message["channel"] in self._key_of:
                    # Also the confirmation of a subscription: what was before it has not been told.
                    touched.add(self._key_of[message["channel"]])

    def _messages(self, pubsub: PubSub, wait: float) -> list[dict[str, Any]]:
        """Return what has arrived, waiting for the first."""
        found: list[dict[str, Any]] = []
        message = pubsub.get_message(timeout=wait)
        while message is not None:
            found.append(message)
            if len(found) == MOST_MESSAGES:
                break
            message = pubsub.get_message(timeout=0)
        return found

    def _look_at_flags(self) -> None:
        """Find out whether the server sends what is needed, have it do so if the settings say that, and log what is new."""
        try:
            flags = str(_text(self._client.config_get(FLAGS_SETTING)).get(FLAGS_SETTING, ""))
            missing = "".join(each for each in FLAGS if each not in flags and not ("A" in flags and each in ALL_FLAGS))
            if missing and self._configure:
                self._client.config_set(FLAGS_SETTING, flags + missing)
                _log.info("the server was told to send keyspace notifications", flags=flags + missing)
                missing = ""
            silence = f"{FLAGS_SETTING} is {flags!r}, and lacks {missing!r}" if missing else None
        except ResponseError as error:
            # Many a hosted server allows nobody to ask.
            silence = f"{FLAGS_SETTING} cannot be read or set: {error}"
        if silence != self._silence:
            self._silence = silence
            if silence is not None:
                _log.warning(
                    "no keyspace notifications: the watched keys are read again and again",
                    reason=silence,
                    seconds=self._interval,
                )

    # ---- reading ----

    def _read(self, keys: Collection[str]) -> dict[str, Content]:
        """What the keys have to say, all at one moment."""
        with self._client.pipeline(transaction=True) as pipeline:
            for key in keys:
                pipeline.type(key)
                pipeline.strlen(key)
                # One byte more than may be, so that what is too long is seen without being fetched.
                pipeline.getrange(key, 0, self._max_bytes)
            # Of a key that is no string the last two are errors, and say so in their place.
            replies = pipeline.execute(raise_on_error=False)
        return {key: self._content(key, *replies[3 * i : 3 * i + 3]) for i, key in enumerate(keys)}

    def _content(self, key: str, kind: bytes | Exception, size: int | Exception, value: bytes | Exception) -> Content:
        if isinstance(kind, Exception):
            raise kind
        if kind == b"none":
            return Content(None, {"key": key, "value": None})
        if kind != b"string":
            return _unsupported(key, "type", f"It is a {kind.decode()}; only strings are shown.")
        if isinstance(size, Exception):
            raise size
        if isinstance(value, Exception):
            raise value
        if size > self._max_bytes:
            return _unsupported(key, "too-large", f"It has more than {self._max_bytes} bytes.")
        try:
            return Content(None, {"key": key, "value": value.decode()})
        except UnicodeDecodeError:
            return _unsupported(key, "not-text", "It is not UTF-8.")

    # ---- publishing ----

    def _publish(self, contents: Mapping[str, Content]) -> bool:
        """Publish those that differ from what was published last; whether there were any."""
        digests = {key: content.digest() for key, content in contents.items()}
        changed = [
            key for key, digest in digests.items() if key not in self._shown or self._shown[key].digest != digest
        ]
        if not changed:
            return False
        for key in changed:
            last = self._shown.get(key, Shown(-1, "known"))
            # Under the number of what may have been published and is not known, the same content is published once.
            self._shown[key] = Shown(last.number + bool(last.digest), "")
        self._note()
        ts = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for key in changed:
            content, number, digest = contents[key], self._shown[key].number, digests[key]
            data = msgspec.json.encode({**content.data, "ts": ts})
            event = Event(data, event=content.event, id=f"{self._token}/{number}/{digest}/{key}")
            if not self._duty.publish([(WATCH_PREFIX + key, event)]):
                return True
            self._shown[key] = Shown(number, digest)
            self.changes += 1
        self._note()
        return True

    def _note(self) -> None:
        self._duty.note(json.dumps([self._token, self._shown], separators=(",", ":")))


def _unsupported(key: str, reason: str, detail: str) -> Content:
    return Content("unsupported", {"key": key, "reason": reason, "detail": detail})


def _read_note(note: str | None) -> tuple[str, dict[str, Shown]] | None:
    """What a note says; None for no note, and for one of another version."""
    try:
        token, shown = msgspec.json.decode(note or "", type=tuple[str, dict[str, Shown]])
    except msgspec.DecodeError:
        return None
    return token, shown


def _text(reply: Mapping[Any, Any]) -> dict[str, Any]:
    """A reply of names and values as text."""
    return {_decode(name): _decode(value) for name, value in reply.items()}


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
