"""`Subscriber`: one pub/sub connection. redis-py connects it; what arrives is read by hiredis alone.

redis-py takes 4.5 us for a message, hiredis 0.3. It also resubscribes silently after a loss, which here has to be noticed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sse_core.backplane.redis.url import ConnectionClass

#: As CLIENT LIST shows all connections of this kit.
CLIENT_NAME = "sse-kit"
_BUFFER_BYTES = 1 << 18
#: Bytes that one call of `receive` takes: somebody else may have to be served in between.
_MOST_BYTES = 1 << 20
#: Channels of one command, so that Redis serves others in between.
_CHANNELS = 500

Reply = tuple[bytes, bytes, bytes | int]


class _SocketMixin(AbstractConnection):
    """Shows the socket that redis-py has connected, authenticated and named."""

    def connected_socket(self) -> socket.socket:
        return cast(socket.socket, self._sock)


class _TCPConnection(_SocketMixin, Connection):
    pass


class _TLSConnection(_SocketMixin, SSLConnection):
    pass


class _UnixConnection(_SocketMixin, UnixDomainSocketConnection):
    pass


_CLASSES: dict[ConnectionClass, Callable[..., AbstractConnection]] = {
    Connection: _TCPConnection,
    SSLConnection: _TLSConnection,
    UnixDomainSocketConnection: _UnixConnection,
}


class Subscriber:
    """A connection for sharded pub/sub, connected when made. For one thread at a time.

    ``connection_class`` is redis-py's for TCP, TLS or a unix socket, ``options`` are its keyword arguments; ``timeout``
    (seconds) bounds connecting and sending. Raises what redis-py raises.
    """

    def __init__(self, connection_class: ConnectionClass, options: dict[str, Any], *, timeout: float) -> None:
        self._timeout = timeout
        made = options | {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "client_name": CLIENT_NAME,
            # Under RESP3 messages would come as pushes, which hiredis marks by a type of its own.
            "protocol": 2,
        }
        # It closes the socket when it is collected, so it is kept.
        self._connection = _CLASSES[connection_class](**made)
        self._connection.connect()
        self._socket = cast(_SocketMixin, self._connection).connected_socket()
        self._socket.setblocking(False)
        self._reader = hiredis.Reader(protocolError=RedisConnectionError, replyError=_error)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._ended = False

    def fileno(self) -> int:
        """The descriptor to wait for: readable means that `receive` has something to do."""
        return self._socket.fileno()

    def subscribe(self, channels: Iterable[str | bytes]) -> None:
        """Ask for channels. Each is confirmed by a reply ``ssubscribe``; nothing is waited for here.

        Raises redis-py's ``ConnectionError`` or ``TimeoutError``.
        """
        self._send(b"SSUBSCRIBE", channels)

    def unsubscribe(self, channels: Iterable[str | bytes]) -> None:
        """Leave channels. Each is confirmed by a reply ``sunsubscribe``."""
        self._send(b"SUNSUBSCRIBE", channels)

    def _send(self, command: bytes, channels: Iterable[str | bytes]) -> None:
        # The channels of one command have to be of one slot.
        slots: dict[bytes, list[bytes]] = {}
        for channel in channels:
            name = channel.encode() if isinstance(channel, str) else channel
            slots.setdefault(name[: name.find(b"}") + 1], []).append(name)
        packed: list[bytes] = []
        for names in slots.values():
            for at in range(0, len(names), _CHANNELS):
                packed += self._connection.pack_command(command.decode(), *names[at : at + _CHANNELS])
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(b"".join(packed))
            self._socket.setblocking(False)
        except TimeoutError as error:
            raise RedisTimeoutError(f"sending {command.decode()} timed out") from error
        except OSError as error:
            raise RedisConnectionError(f"sending {command.decode()}: {error}") from error

    def receive(self) -> list[Reply]:
        """Return the replies that are there, without waiting: (kind, channel, data); [] if there are none.

        Kinds are ``ssubscribe`` and ``sunsubscribe`` (data is how many channels are left) and ``smessage`` (data is the
        payload). More may be left, and the descriptor is readable then. Raises redis-py's ``ConnectionError`` when the
        connection has ended, and what a reply of Redis says (``MovedError``).
        """
        replies: list[Reply] = []
        if self._ended:
            raise RedisConnectionError("Redis has closed the connection")
        gets = self._reader.gets
        taken = 0
        more = True
        while more:
            count = self._receive_some()
            if count <= 0:
                break
            # It takes any buffer, which its types do not know.
            self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]
            while (reply := gets()) is not False:
                if isinstance(reply, Exception):
                    raise reply
                replies.append(tuple(reply))
            taken += count
            # What TLS has decrypted already makes no descriptor readable.
            pending = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
            more = pending > 0 or (count == _BUFFER_BYTES and taken < _MOST_BYTES)
        if self._ended and not replies:
            raise RedisConnectionError("Redis has closed the connection")
        return replies

    def _receive_some(self) -> int:
        """Fill the buffer; return how many bytes there are now, 0 for none."""
        try:
            count = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise RedisConnectionError(f"receiving: {error}") from error
        if count == 0:
            # What came before is returned first; the next call tells.
            self._ended = True
        return count

    def close(self) -> None:
        """Hang up. May be called again."""
        self._connection.disconnect()


def _error(text: str) -> Exception:
    """What an error reply means."""
    code, _, rest = text.partition(" ")
    return MovedError(rest) if code == "MOVED" else ResponseError(text)
