"""One stream as a client sees it, read on a thread of its own: waiting for something never loses what comes meanwhile."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from ..client import CONNECTION_ERRORS, READ_BYTES, Server, UnavailableError

#: ``end``: the body ended as HTTP ends one. ``cut``: the connection went away in the middle of it.
Ending = Literal["end", "cut"]


class Head(NamedTuple):
    """The head of an answer; names are in lower case. ``version`` is 10 or 11."""

    version: int
    status: int
    reason: str
    headers: Mapping[str, str]


class Stream:
    """A request and its answer. `wait` tells whether something has come; for one thread."""

    def __init__(self, server: Server, path: str, headers: Mapping[str, str]) -> None:
        """Send a request. What hinders it is raised by `wait`."""
        self.head: Head | None = None
        self.body = b""
        self.ending: Ending | None = None
        self._failure: Exception | None = None
        self._news: queue.SimpleQueue[Head | bytes | Ending | Exception] = queue.SimpleQueue()
        self._connection = server.connection()
        threading.Thread(target=self._read, args=(path, dict(headers)), name="doctor", daemon=True).start()

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``condition`` holds, at most so long, or until the answer has ended. Raises `UnavailableError`."""
        deadline = time.monotonic() + seconds
        while True:
            self._take_all()
            if self._failure is not None:
                raise UnavailableError(f"the connection failed: {self._failure or type(self._failure).__name__}")
            if condition():
                return True
            left = deadline - time.monotonic()
            if self.ending is not None or left <= 0:
                return False
            with suppress(queue.Empty):
                self._take(self._news.get(timeout=left))

    def close(self) -> None:
        """Leave."""
        with suppress(OSError):
            if self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _take_all(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._take(self._news.get_nowait())

    def _take(self, news: Head | bytes | Ending | Exception) -> None:
        if isinstance(news, Head):
            self.head = news
        elif isinstance(news, bytes):
            self.body += news
        elif isinstance(news, Exception):
            self._failure = news
        else:
            self.ending = news

    def _read(self, path: str, headers: dict[str, str]) -> None:
        connection = self._connection
        try:
            try:
                # To connect has a time; after that silence is what is looked for.
                connection.connect()
                connection.sock.settimeout(None)
                connection.putrequest("GET", path, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.endheaders()
                response = connection.getresponse()
            except CONNECTION_ERRORS as error:
                self._news.put(error)
                return
            fields = {name.lower(): value for name, value in response.getheaders()}
            self._news.put(Head(response.version, response.status, response.reason, fields))
            self._news.put(self._read_body(response))
        finally:
            connection.close()

    def _read_body(self, response: http.client.HTTPResponse) -> Ending:
        try:
            while chunk := response.read1(READ_BYTES):
                self._news.put(chunk)
        except CONNECTION_ERRORS:
            return "cut"
        return "end"
