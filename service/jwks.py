"""Keys that can change while the service runs: in a file, or at a URL (a JSON Web Key Set, RFC 7517).

Keys of a URL are fetched by a thread of their own, one at a time, when first asked for, again from time to time, and when a
token names a key that is not known: but then at most once in ``least_seconds``, or whoever makes names up would make us
ask for each. Keys that cannot be had anew go on for ``most_seconds``.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from .keys import Key, KeyRefusedError, KeysAwayError, KeySet, from_document, from_text
from .origins import is_loopback

MAX_DOCUMENT_BYTES = 262_144
# How often a file is looked at, at most.
FILE_SECONDS = 1.0
READ_BYTES = 16_384
# Threads that wait for keys while there are some: whoever makes a name of a key up could else hold all of them.
MOST_WAITING = 2
# When to come back for those that do not wait, in seconds.
_SOON = 1.0

_log = structlog.get_logger("sse_kit.jwks")


class FileKeys:
    """Keys of a file: a JSON Web Key Set, or one public key in PEM. It is read again when it changes.

    Raises `KeyRefusedError` and OSError for a file that cannot be used. One that becomes so later is logged, and what was
    read before goes on.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._keys = self._read()
        self._next = clock() + FILE_SECONDS

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """See `Keys.find`."""
        with self._lock:
            if self._clock() >= self._next:
                self._next = self._clock() + FILE_SECONDS
                self._look()
            return self._keys.find(kid, algorithm)

    def _look(self) -> None:
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            self._keys = self._read()
        except (OSError, KeyRefusedError) as error:
            _log.warning("the file of keys cannot be used: the keys before it go on", reason=str(error))
        else:
            _log.info("keys read anew", keys=len(self._keys.keys))

    def _stamp(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> KeySet:
        with self._path.open("rb") as file:
            text = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(text) > MAX_DOCUMENT_BYTES:
            raise KeyRefusedError(f"more than {MAX_DOCUMENT_BYTES} bytes")
        if text.lstrip().startswith(b"{"):
            return from_document(text, secrets=True)
        return KeySet([from_text(None, text.decode(errors="replace").strip())])


class UrlKeys:
    """Keys of a URL, which is https, or http on this very machine. Redirects and proxies are not followed. Thread-safe.

    ``fresh_seconds``: how long they are used without asking again. ``timeout``: of a whole fetch, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        fresh_seconds: float,
        least_seconds: float,
        most_seconds: float,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_url(url)
        self._url = url
        self._fresh_seconds = fresh_seconds
        self._least_seconds = least_seconds
        self._most_seconds = most_seconds
        self._timeout = timeout
        self._clock = clock
        self._changed = threading.Condition()
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        self._asking = False
        self._waiting = 0
        #: How often the URL was asked.
        self.fetches = 0

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """See `Keys.find`. Waits for the URL, for its time-out at most, if the key is not known and it may be asked."""
        with self._changed:
            key = self._known(kid, algorithm)
            if key is not None:
                if self._clock() - self._fetched_at >= self._fresh_seconds:
                    self._ask()
                return key
            if self._ask() or self._asking:
                self._wait()
            key = self._known(kid, algorithm)
            if self._keys is None:
                raise KeysAwayError(self._least_seconds)
            return key

    def _wait(self) -> None:
        if self._keys is not None and self._waiting >= MOST_WAITING:
            raise KeysAwayError(_SOON)
        self._waiting += 1
        try:
            self._changed.wait_for(lambda: not self._asking, self._timeout)
        finally:
            self._waiting -= 1

    def _known(self, kid: str | None, algorithm: str) -> Key | None:
        if self._keys is not None and self._clock() - self._fetched_at >= self._most_seconds:
            # What was revoked there meanwhile is not known here: too old to be believed.
            self._keys = None
        return None if self._keys is None else self._keys.find(kid, algorithm)

    def _ask(self) -> bool:
        """Begin to fetch, unless somebody does, or did a moment ago. Under the lock."""
        now = self._clock()
        if self._asking or (self._asked_at is not None and now - self._asked_at < self._least_seconds):
            return False
        self._asked_at = now
        threading.Thread(target=self._fetch, name="jwks", daemon=True).start()
        # Only now: without a thread, of which there may be none left, nobody would ever say that it is over.
        self._asking = True
        self.fetches += 1
        return True

    def _fetch(self) -> None:
        keys: KeySet | None = None
        try:
            keys = from_document(fetch(self._url, self._timeout), secrets=False)
        except (OSError, http.client.HTTPException, KeyRefusedError) as error:
            _log.warning("the keys cannot be fetched", url=self._url, reason=str(error) or type(error).__name__)
        finally:
            with self._changed:
                self._asking = False
                if keys is not None:
                    self._keys, self._fetched_at = keys, self._clock()
                self._changed.notify_all()


def check_url(url: str) -> None:
    """Raise ValueError for a URL that keys must not come from: whoever can change them on the way can be anybody here."""
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not secure or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("must be https://HOST[:PORT]/PATH, or http:// of this very machine, without a user")
    _ = parts.port


def fetch(url: str, timeout: float) -> bytes:
    """Return a URL's document, within ``timeout`` seconds whatever the server does. Raises OSError, `HTTPException`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    # A server that sends a byte now and then satisfies the socket's own time-out for ever.
    late = threading.Timer(timeout, _cut, [connection])
    late.daemon = True
    late.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Accept": "application/jwk-set+json, application/json"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"the answer is {response.status}, and 200 is the only one that is taken")
        document = bytearray()
        while chunk := response.read1(READ_BYTES):
            document += chunk
            if len(document) > MAX_DOCUMENT_BYTES:
                raise OSError(f"the document has more than {MAX_DOCUMENT_BYTES} bytes")
        return bytes(document)
    finally:
        late.cancel()
        connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
