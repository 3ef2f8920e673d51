"""HTTP/1.1 over a gevent socket, no more than streams and publishing need: a request, a head, and a body as it comes.

Nothing waits for a full buffer: what `receive` returns is what one ``recv`` has brought.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from gevent import socket as gsocket
from gevent import ssl as gssl

_CHUNK = 65536
_LONGEST_HEAD = 65536
_LONGEST_SIZE = 1024


class ProtocolError(OSError):
    """What came is no answer that can be read."""


class Address(NamedTuple):
    """Where a URL leads: its host, port, whether by TLS, and what to ask for there."""

    host: str
    port: int
    is_tls: bool
    target: str
    #: For the header Host.
    authority: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Take a URL apart. Raises `ValueError` for one that is not http or https."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server: it begins with http:// or https:// and a host")
        is_tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(
            parts.hostname, parts.port or (443 if is_tls else 80), is_tls, target, parts.netloc.rpartition("@")[2]
        )


@dataclass(frozen=True)
class Head:
    """The head of an answer; names are in lower case."""

    status: int
    headers: Mapping[str, str]


def tls_context(*, ca_file: str | None = None, insecure: bool = False) -> ssl.SSLContext:
    """Return the context for all connections of a process: with further authorities, or believing everybody."""
    context: ssl.SSLContext = gssl.create_default_context(cafile=ca_file)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """One connection. ``timeout`` (seconds) is for each step: to connect, to send, to receive. Raises `OSError`."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        """``receive_buffer`` bounds what the kernel holds, in bytes; ``source`` is the address to connect from."""
        self.address = address
        self._body: _Body | None = None
        family = gsocket.AF_INET6 if ":" in address.host else gsocket.AF_UNSPEC
        found = gsocket.getaddrinfo(address.host, address.port, family, gsocket.SOCK_STREAM)
        last: OSError | None = None
        for kind, _, _, _, place in found:
            self._socket = gsocket.socket(kind, gsocket.SOCK_STREAM)
            try:
                if receive_buffer is not None:
                    # Before it connects, or the window has been told already.
                    self._socket.setsockopt(gsocket.SOL_SOCKET, gsocket.SO_RCVBUF, receive_buffer)
                self._socket.setsockopt(gsocket.IPPROTO_TCP, gsocket.TCP_NODELAY, 1)
                self._socket.settimeout(timeout)
                if source is not None:
                    self._socket.bind((source, 0))
                self._socket.connect(place)
                if address.is_tls:
                    self._socket = (tls or tls_context()).wrap_socket(self._socket, server_hostname=address.host)
                return
            except OSError as error:
                self._socket.close()
                last = error
        raise last or ProtocolError(f"{address.host} has no address")

    def request(self, method: str, headers: Mapping[str, str], body: bytes = b"", target: str | None = None) -> Head:
        """Send a request and return the head of its answer; the body is for `receive`."""
        fields = {"Host": self.address.authority, **headers}
        if body or method not in ("GET", "HEAD"):
            fields["Content-Length"] = str(len(body))
        lines = [
            f"{method} {target or self.address.target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return self._head()

    def _head(self) -> Head:
        received = b""
        while b"\r\n\r\n" not in received:
            if len(received) > _LONGEST_HEAD:
                raise ProtocolError(f"a head of more than {_LONGEST_HEAD} bytes")
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                raise ProtocolError(f"the connection ended within the head of the answer: {received[:200]!r}")
            received += chunk
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise ProtocolError(f"no answer of HTTP/1: {first[:200]!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        answer = Head(int(words[1]), headers)
        self._body = _Body(answer, rest)
        return answer

    def set_timeout(self, seconds: float | None) -> None:
        """Set how long each step may take from now on."""
        self._socket.settimeout(seconds)

    def receive(self) -> bytes:
        """Return the next bytes of the body, waiting for some; nothing at its end. Raises `TimeoutError` after the timeout."""
        body = self._body
        if body is None:
            raise ProtocolError("nothing was asked for")
        while True:
            data = body.take()
            if data or body.is_ended:
                return data
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                body.end()
                return b""
            body.feed(chunk)

    def read_all(self) -> bytes:
        """Return the whole body."""
        parts = []
        while part := self.receive():
            parts.append(part)
        return b"".join(parts)

    @property
    def can_go_on(self) -> bool:
        """Whether another request may follow: the body was read to its end, and both sides keep the connection."""
        return self._body is not None and self._body.is_reusable

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class _Body:
    """Finds the end of a body, and removes the chunked coding (RFC 9112, sections 6 and 7.1)."""

    def __init__(self, head: Head, rest: bytes) -> None:
        self.is_ended = False
        self.is_reusable = False
        self._keeps = head.headers.get("connection", "").lower() != "close"
        self._rest = rest
        self._is_chunked = head.headers.get("transfer-encoding", "").lower().endswith("chunked")
        length = head.headers.get("content-length")
        self._left = None if self._is_chunked or length is None else int(length)
        self._in_chunk = 0
        if head.status in (204, 304) or self._left == 0:
            self._finish()

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._rest += data

    def end(self) -> None:
        """The connection has ended. Raises `ProtocolError` if the body had not."""
        is_cut = not self.is_ended and (self._is_chunked or bool(self._left))
        self.is_ended = True
        if is_cut:
            raise ProtocolError("the connection was cut within the body")

    def take(self) -> bytes:
        """Return what has come of the body itself."""
        if self._is_chunked:
            return self._chunks()
        data, self._rest = self._rest, b""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            if self._left == 0:
                self._finish()
        return data

    def _finish(self) -> None:
        self.is_ended = True
        self.is_reusable = self._keeps

    def _chunks(self) -> bytes:
        found = []
        while self._rest and not self.is_ended:
            if self._in_chunk > 2:
                # The two are the line's end behind the chunk.
                part = self._rest[: self._in_chunk - 2]
                self._rest = self._rest[len(part) :]
                self._in_chunk -= len(part)
                found.append(part)
            elif self._in_chunk:
                part = self._rest[: self._in_chunk]
                self._rest = self._rest[len(part) :]
                self._in_chunk -= len(part)
            else:
                line, end, after = self._rest.partition(b"\r\n")
                if not end:
                    if len(line) > _LONGEST_SIZE:
                        raise ProtocolError(f"no size of a chunk: {line[:80]!r}")
                    break
                try:
                    size = int(line.partition(b";")[0], 16)
                except ValueError:
                    raise ProtocolError(f"no size of a chunk: {line[:80]!r}") from None
                if size == 0:
                    # No trailers are read: nobody who streams events sends any.
                    if len(after) < 2:
                        break
                    self._rest = after[2:]
                    self._finish()
                    break
                self._rest = after
                self._in_chunk = size + 2
        return b"".join(found)
