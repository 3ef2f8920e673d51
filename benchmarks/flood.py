"""Publishing into Redis as fast as it takes it: prebuilt calls of the publish script, some of them always under way."""

from __future__ import annotations

import time
from collections.abc import Sequence

import hiredis

from sse_core import Event
from sse_core.backplane.redis.commands import Item, publish_arguments
from sse_core.backplane.redis.names import Names
from sse_core.backplane.redis.scripts import PUBLISH

from .harness import BenchmarkError, RedisServer, connect

PAYLOAD = "x" * 100
#: What a hub gives a topic that has no options of its own.
HISTORY_EVENTS, HISTORY_AGE_MS = 1_000, 3_600_000
KEY_WINDOW_MS, MAX_KEYS = 120_000, 200_000
#: Events of one send at least, and sends that wait for their answers at most.
SEND_EVENTS, SENDS = 100, 4
_NO_KEY = "k" * 16


class Flood:
    """One connection that publishes batches of ``batch`` events of 100 bytes into the namespace ``default``.

    With several topics each batch has events of one of them, and the topics take turns; ``mixed``: it is the events that
    take turns. As a hub's do, each batch brings a key of its own and each event none.
    """

    def __init__(self, redis: RedisServer, topics: Sequence[str], batch: int, *, mixed: bool = False) -> None:
        # Each topic as often as any other.
        turns = -(-SEND_EVENTS // (batch * len(topics)))
        calls = turns * len(topics)
        events = [
            [topics[(call * batch + at if mixed else call) % len(topics)] for at in range(batch)]
            for call in range(calls)
        ]
        self._calls = calls
        self._events = calls * batch
        self._text = bytearray().join(map(_call, events))
        self._keys = _places(self._text, _NO_KEY.encode())
        self._redis = redis
        self._socket = connect(redis.address)
        self._reader = hiredis.Reader()
        self._buffer = bytearray(1 << 18)
        self._next_key = time.monotonic_ns()
        # Loaded here, so that every call can name it.
        self._socket.sendall(_packed([b"SCRIPT", b"LOAD", PUBLISH.text.encode()]))
        self._unanswered = 1
        while self._unanswered:
            self._receive()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, *, events: int = 0, seconds: float = 0.0) -> int:
        """Publish until so many events or seconds have passed; return how many events, all of them in Redis."""
        until = time.monotonic() + seconds
        done = 0
        while done < events or time.monotonic() < until:
            for place in self._keys:
                self._text[place : place + len(_NO_KEY)] = b"%016x" % self._next_key
                self._next_key += 1
            self._socket.sendall(self._text)
            done += self._events
            self._unanswered += self._calls
            while self._unanswered >= SENDS * self._calls:
                self._receive()
        while self._unanswered:
            self._receive()
        return done

    def _receive(self) -> None:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise BenchmarkError("Redis has closed the connection")
        self._reader.feed(bytes(self._buffer[:count]))
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, Exception):
                raise BenchmarkError(f"Redis refused: {reply}")
            self._unanswered -= 1


def _call(topics: Sequence[str]) -> bytes:
    items = (Item(topic, Event(PAYLOAD), HISTORY_EVENTS, HISTORY_AGE_MS) for topic in topics)
    arguments = publish_arguments(items, batch_key=_NO_KEY, key_window_ms=KEY_WINDOW_MS, max_keys=MAX_KEYS)
    texts = (each if isinstance(each, bytes) else str(each).encode() for each in arguments)
    return _packed([b"EVALSHA", PUBLISH.digest.encode(), b"1", Names("default").clock, *texts])


def _packed(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _places(text: bytes | bytearray, sought: bytes) -> list[int]:
    found, at = [], text.find(sought)
    while at >= 0:
        found.append(at)
        at = text.find(sought, at + len(sought))
    return found
