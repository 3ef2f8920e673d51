"""What is wrong with a stream on its way, each proved by the order of things: the next is asked for when the last has come.

A clock decides only how long to wait for what does not come.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from ..client import (
    CONNECT_TIMEOUT,
    CONNECTION_ERRORS,
    MAX_ERROR_BYTES,
    RefusedError,
    Server,
    UnavailableError,
    bearer,
    problem,
)
from .connection import Head, Stream
from .hops import recognize

Fault = Literal["buffers", "compresses", "cuts", "downgrades", "strips", "caches"]
#: In the order in which they are looked for.
FAULTS: tuple[Fault, ...] = ("downgrades", "compresses", "strips", "buffers", "cuts", "caches")

ARRIVED = "sse-kit-arrived"
BEATS = 3
# Asked for one after another, while nothing comes: together more than any proxy holds back by default.
PADDINGS = (1024, 4096, 8192, 16_384, 32_768, *(65_536,) * 14)
PADDING_WAIT = 0.5  # Seconds for each of them.
WHOLE_WAIT = 30.0  # Seconds for an answer that is complete at once.
# What browsers accept. A service compresses no stream, so whatever comes compressed was compressed on the way.
ACCEPT_ENCODING = "gzip, deflate, br, zstd"
# Sent as header, where the query says another: which of both arrived is told apart.
HEADER_ID, QUERY_ID = "0-1", "0-0"


@dataclass
class Examination:
    """What was found at one address. ``evidence`` has a text for each fault; ``notes`` are no faults."""

    address: str
    evidence: dict[Fault, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hops: tuple[str, ...] = ()
    server: str = ""
    skipped: list[Fault] = field(default_factory=list)


class Examiner:
    """Examines one address. ``patience`` are the seconds that something may take to come. Use it once."""

    def __init__(
        self, server: Server, *, namespace: str | None = None, token: str | None = None, patience: float, idle: bool
    ) -> None:
        self._server = server
        self._patience = patience
        self._idle = idle
        self._token = bearer(token)
        probe = secrets.token_hex(16)
        self._path = f"{server.path('events', namespace)}?topic=doctor/{probe}"
        self._beat_path = server.path(f"doctor/{probe}", namespace)
        self._beats = 0
        self._found = Examination(str(server))

    def examine(self) -> Examination:
        """Look for every fault. Raises `RefusedError` and `UnavailableError` where the service cannot be asked."""
        self._look_at_tls()
        stream, arrived = self._open(ACCEPT_ENCODING)
        assert stream.head is not None
        self._look_at_head(stream.head, arrived)
        if "compresses" in self._found.evidence:
            stream.close()
            stream, arrived = self._open("identity")
        try:
            if self._look_for_buffers(stream):
                self._look_for_cuts(stream, float(arrived["keepalive"]))
            elif "cuts" not in self._found.evidence:
                self._found.skipped.append("cuts")
        finally:
            stream.close()
        self._look_for_caches()
        return self._found

    # ---- the head ----

    def _open(self, accept_encoding: str) -> tuple[Stream, dict[str, Any]]:
        stream = self._request(f"{self._path}&last_event_id={QUERY_ID}", accept_encoding)
        try:
            if not stream.wait(lambda: stream.head is not None, self._patience):
                # Whoever holds back the head lets it go with what follows.
                self._push(stream, lambda: stream.head is not None, "Nothing of the answer, not even its head,")
            return stream, self._arrived(stream)
        except BaseException:
            stream.close()
            raise

    def _request(self, path: str, accept_encoding: str) -> Stream:
        return Stream(
            self._server,
            path,
            {
                "Accept": "text/event-stream",
                "Accept-Encoding": accept_encoding,
                "Last-Event-ID": HEADER_ID,
                **self._token,
            },
        )

    def _arrived(self, stream: Stream) -> dict[str, Any]:
        head = stream.head
        if head is None:
            raise UnavailableError("no answer came")
        if head.status != 200:
            stream.wait(lambda: len(stream.body) > MAX_ERROR_BYTES, self._patience)
            raise RefusedError(head.status, head.reason, problem(stream.body))
        try:
            arrived = json.loads(head.headers.get(ARRIVED, ""))
        except ValueError:
            arrived = None
        if not isinstance(arrived, dict):
            raise UnavailableError(
                f"the answer does not say what arrived ({ARRIVED}): it is not of sse-kit, the service has no room, or its "
                "setting doctor is off"
            )
        return arrived

    def _look_at_head(self, head: Head, arrived: Mapping[str, Any]) -> None:
        found = self._found
        found.server = head.headers.get("server", "")
        found.hops = recognize(head.headers, arrived["headers"], arrived["named"])
        protocol = arrived["protocol"]
        if protocol not in ("HTTP/1.1", "HTTP/2", "HTTP/2.0"):
            found.evidence["downgrades"] = f"The request was sent as HTTP/1.1 and reached the service as {protocol}."
        elif head.version != 11:
            found.evidence["downgrades"] = "The request was sent as HTTP/1.1 and answered as HTTP/1.0."
        coding = head.headers.get("content-encoding", "identity")
        if coding != "identity":
            found.evidence["compresses"] = f"The service sends text, and what came has Content-Encoding: {coding}."
        last = arrived["headers"].get("last-event-id")
        if last != HEADER_ID:
            told = "without one" if last is None else f"with {last!r}"
            found.evidence["strips"] = (
                f"The request was sent with Last-Event-ID: {HEADER_ID} and reached the service {told}."
            )

    def _look_at_tls(self) -> None:
        address = str(self._server)
        parts = urlsplit(address)
        if parts.scheme != "https" or parts.hostname is None:
            return
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with (
                socket.create_connection((parts.hostname, parts.port or 443), CONNECT_TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
            ):
                chosen = secure.selected_alpn_protocol()
        except CONNECTION_ERRORS as error:
            raise UnavailableError(f"the connection failed: {error}") from None
        if chosen != "h2":
            self._found.notes.append(
                "HTTP/2 is not offered: browsers open six streams of a host at most, over all of their tabs."
            )

    # ---- the body ----

    def _look_for_buffers(self, stream: Stream) -> bool:
        """Whether each beat comes before the next is asked for."""
        for _ in range(BEATS):
            self._ask_for_beat()
            number = self._beats
            if self._has_come(stream, number, self._patience):
                continue
            if not self._has_ended(stream, "while a beat was waited for"):
                self._push(stream, lambda number=number: _beat(number) in stream.body, f"Beat {number}")
            return False
        return True

    def _push(self, stream: Stream, condition: Any, what: str) -> None:
        """Nothing comes: ask for more until it does, which says how much is held back."""
        pushed = 0
        for padding in PADDINGS:
            self._ask_for_beat(padding)
            pushed += padding
            if stream.wait(condition, PADDING_WAIT):
                self._found.evidence["buffers"] = (
                    f"{what} came only after {pushed:,} bytes more had been sent behind it."
                )
                return
            if stream.ending is not None:
                break
        self._found.evidence["buffers"] = f"{what} did not come, though {pushed:,} bytes were sent behind it."

    def _look_for_cuts(self, stream: Stream, keepalive: float) -> None:
        """Ask for nothing: the service breaks the silence by itself, unless somebody ends it before."""
        if not self._idle:
            self._found.skipped.append("cuts")
            return
        before = len(stream.body)
        if stream.wait(lambda: len(stream.body) > before, 2 * keepalive + self._patience):
            return
        if not self._has_ended(stream, f"in a silence, which the service breaks every {keepalive:g} s"):
            self._found.evidence.setdefault(
                "buffers", f"No keepalive came, which the service sends every {keepalive:g} s of silence."
            )

    def _has_ended(self, stream: Stream, when: str) -> bool:
        if stream.ending is None:
            return False
        # The one that it begins with is not told alone.
        if b"\n\nretry:" in stream.body:
            raise UnavailableError("the service itself ended the stream, as it does when it stops: ask again")
        how = "without its proper end" if stream.ending == "cut" else "though the service did not end it"
        self._found.evidence["cuts"] = f"The stream ended {when}, {how}."
        return True

    def _has_come(self, stream: Stream, number: int, seconds: float) -> bool:
        return stream.wait(lambda: _beat(number) in stream.body, seconds)

    def _ask_for_beat(self, padding: int = 0) -> None:
        self._beats += 1
        connection = self._server.connection()
        deadline = time.monotonic() + self._patience
        try:
            connection.request(
                "POST", f"{self._beat_path}?beat={self._beats}&padding={padding}", b"", {"Accept": "*/*", **self._token}
            )
            response = connection.getresponse()
            body = response.read(MAX_ERROR_BYTES)
        except CONNECTION_ERRORS as error:
            seconds = self._patience - (deadline - time.monotonic())
            raise UnavailableError(
                f"POST {self._beat_path}: {error or type(error).__name__} ({seconds:.1f} s)"
            ) from None
        finally:
            connection.close()
        if response.status != 200:
            raise RefusedError(response.status, response.reason, problem(body))

    # ---- caches ----

    def _look_for_caches(self) -> None:
        """The same question twice, with a whole answer each, which the service makes anew each time."""
        visits = []
        for _ in range(2):
            stream = self._request(f"{self._path}&whole=1", "identity")
            try:
                stream.wait(lambda: False, max(self._patience, WHOLE_WAIT))
                if stream.ending is None:
                    self._found.skipped.append("caches")
                    return
                visits.append(self._arrived(stream)["visit"])
                assert stream.head is not None
                headers = stream.head.headers
            finally:
                stream.close()
        if visits[0] == visits[1]:
            said = [f"{name}: {headers[name]}" for name in ("age", "x-cache", "cf-cache-status") if name in headers]
            self._found.evidence["caches"] = " ".join(
                ["The second of two equal requests was answered with the answer to the first.", *said]
            )


def _beat(number: int) -> bytes:
    return b'data: {"beat":%d,' % number
