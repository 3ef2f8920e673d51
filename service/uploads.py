"""Receiving a file that somebody uploads: onto disk, without a name, within every bound.

The file has no name from the first byte on (``O_TMPFILE``; where a file system has no such thing it is unlinked at once).
So nobody else can open it, the client's name for it is never a path, and nothing has to be cleaned up: the kernel frees it
when it is closed, and when the process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import falcon

from .bodies import check_encoding
from .problems import LIMIT_RETRY_SECONDS, Problem
from .settings import Settings

CHUNK_BYTES = 256 * 1024

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Upload:
    """A file that came whole: ``file`` at its beginning, ``size`` bytes. Closing it, which may be repeated, frees all."""

    def __init__(self, uploads: Uploads, file: IO[bytes]) -> None:
        self._uploads = uploads
        self.file = file
        self.size = 0

    def close(self) -> None:
        """Free the disk, and the place among those that there may be at once."""
        if not self.file.closed:
            self.file.close()
            self._uploads.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Uploads:
    """Receives bodies of requests as files. Thread-safe.

    Bounds, all of `Settings`: ``max_jobs`` uploads at once in this process, from the first byte until they are closed;
    ``max_upload_bytes`` each; ``upload_timeout`` seconds for one to come; ``min_free_bytes`` that the disk keeps.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.job_folder
        self._most = settings.max_jobs
        self._max_bytes = settings.max_upload_bytes
        self._timeout = settings.upload_timeout
        self._min_free = settings.min_free_bytes
        self._lock = threading.Lock()
        self._count = 0

    def receive(self, req: falcon.Request) -> Upload:
        """Return the request's body as a file, which the caller has to close.

        Raises a problem, and then nothing is left of it: 400 for a body that breaks off, 408, 411 for one of which neither
        a length is told nor chunks come, 413, 415 for a compressed one, 503 where there are too many already, 507.
        """
        check_encoding(req)
        length = req.content_length
        if length is None and not req.get_header("Transfer-Encoding"):
            raise falcon.HTTPLengthRequired(
                description="Send the file as the body, with its Content-Length or in chunks."
            )
        if length is not None and length > self._max_bytes:
            # Unread: whoever is told so can still take the answer, the server sees to that (`sse_core.parting`).
            self._refuse_size()
        self._enter()
        try:
            upload = Upload(self, self._create())
        except BaseException:
            self.leave()
            raise
        try:
            self._check_disk(upload.file, length or 0)
            for chunk in self._chunks(req, length):
                self._write(upload, chunk)
            upload.file.seek(0)
        except BaseException:
            upload.close()
            raise
        return upload

    def leave(self) -> None:
        """An upload is closed."""
        with self._lock:
            self._count -= 1

    def _enter(self) -> None:
        with self._lock:
            if self._count >= self._most:
                raise Problem(
                    503,
                    "limit-reached",
                    f"max_jobs is {self._most}, and that is reached",
                    limit="max_jobs",
                    value=self._most,
                    retry_after=LIMIT_RETRY_SECONDS,
                )
            self._count += 1

    def _create(self) -> IO[bytes]:
        # Unbuffered: a chunk that is written is on the disk's account, and a full disk is seen by who wrote it.
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)

    def _chunks(self, req: falcon.Request, length: int | None) -> Iterator[bytes]:
        """Yield the body; it may be of ``length`` bytes, which the client has told."""
        received = 0
        with _Deadline(req.env, self._timeout) as deadline:
            while length is None or received < length:
                wanted = CHUNK_BYTES if length is None else min(CHUNK_BYTES, length - received)
                chunk = _read(req, wanted)
                if deadline.passed:
                    raise Problem(
                        408,
                        "too-slow",
                        f"A file must have come within {self._timeout} s; {received + len(chunk or b'')} bytes had.",
                        limit="upload_timeout",
                        value=self._timeout,
                    )
                if chunk is None or (not chunk and length is not None):
                    total = "its end" if length is None else f"{length} bytes"
                    raise falcon.HTTPBadRequest(
                        description=f"The body broke off after {received} bytes, before {total}."
                    )
                if not chunk:
                    return
                received += len(chunk)
                if received > self._max_bytes:
                    self._refuse_size()
                yield chunk

    def _write(self, upload: Upload, chunk: bytes) -> None:
        self._check_disk(upload.file, len(chunk))
        rest = memoryview(chunk)
        try:
            while rest:
                # A raw file may take less than it is given.
                written = upload.file.write(rest)
                rest = rest[written:]
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            self._refuse_disk()
        upload.size += len(chunk)

    def _check_disk(self, file: IO[bytes], more: int) -> None:
        disk = os.fstatvfs(file.fileno())
        if disk.f_bavail * disk.f_frsize - more < self._min_free:
            self._refuse_disk()

    def _refuse_disk(self) -> NoReturn:
        raise Problem(
            507,
            "insufficient-storage",
            f"The disk for uploads has to keep {self._min_free} bytes free.",
            limit="min_free_bytes",
            value=self._min_free,
        )

    def _refuse_size(self) -> NoReturn:
        limit = self._max_bytes
        raise Problem(413, "too-large", f"A file has at most {limit} bytes.", limit="max_upload_bytes", value=limit)


def _read(req: falcon.Request, size: int) -> bytes | None:
    """Read at most so much of the body: empty at its end, None if it is broken."""
    try:
        chunk: bytes = req.stream.read(size)
    except Exception:
        # Of the server, which has a class of its own for each way in which chunks or a connection can be broken.
        return None
    return chunk


class _Deadline:
    """Ends the reading of a body after so many seconds: a client that sends a byte now and then would hold a thread for ever.

    ``passed`` tells that it has. Only gunicorn says which socket a request comes from; elsewhere the bound is looked at
    with each chunk that comes.
    """

    def __init__(self, env: dict[str, Any], seconds: float) -> None:
        self._socket: socket.socket | None = env.get("gunicorn.socket")
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self.passed = False

    def _pass(self) -> None:
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # The plain socket's own, or TLS would forget its keys and the answer would go out in the clear. Wakes
                # who reads; the answer can still be written.
                socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
