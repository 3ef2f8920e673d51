"""Sharded pub/sub for tests, by redis-py's own connection: none of our code between Redis and what is looked at."""

from __future__ import annotations

from typing import Any

import redis

from tests.redisserver import TIMEOUT


class Listener:
    """Hears channels of one server."""

    def __init__(self, client: redis.Redis) -> None:
        self._connection: Any = client.connection_pool.make_connection()
        self._connection.connect()

    def listen(self, *channels: bytes) -> None:
        """Subscribe, and return when Redis has confirmed it."""
        self._connection.send_command("SSUBSCRIBE", *channels)
        for _ in channels:
            assert self._connection.read_response(timeout=TIMEOUT)[0] == b"ssubscribe"

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """Wait for the next messages and return them: channel and payload."""
        found = [self._connection.read_response(timeout=TIMEOUT) for _ in range(count)]
        assert [kind for kind, _, _ in found] == [b"smessage"] * count
        return [(channel, payload) for _, channel, payload in found]

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()
