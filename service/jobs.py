"""The job: checksum and number of lines of an uploaded file, read from disk in chunks, with its progress as events.

A line ends with LF, as ``wc -l`` counts; what follows the last LF, if anything, is one more. So ``a\\nb`` has two lines, and
an empty file none.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator
from typing import Any

from sse_core import Event, Hub, Producer, ProgressMeter

from .limits import Place
from .settings import Settings
from .uploads import Upload

CHUNK_BYTES = 256 * 1024
# Of a paced job, so that its bar moves.
CHUNKS_PER_SECOND = 10


class Jobs:
    """Starts jobs as runs on ``hub``. Thread-safe."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._bytes_per_second = settings.job_bytes_per_second

    def start(self, upload: Upload, name: str, place: Place) -> Producer:
        """Begin the job of an upload, which is closed at its end, whatever that is. ``name`` is what it is called,
        ``place`` its among the runs of its client.

        Raises what `Hub.produce` does, with the upload closed.
        """
        stopped = threading.Event()
        job = _count(upload, name, self._bytes_per_second, stopped)
        # Into its `with`: a generator that was never entered closes nothing when it is closed.
        next(job)
        try:
            # It goes on when nobody listens: who uploaded a file wants its checksum after a walk, too.
            return self._hub.produce(place.of(job), abort=stopped.set, abandon_after=None)
        except BaseException:
            job.close()
            raise


def _count(
    upload: Upload, name: str, bytes_per_second: int, stopped: threading.Event
) -> Generator[Event | None, None, dict[str, Any] | None]:
    """Yield nothing once, then events of progress; return the result, or None if ``stopped`` was set."""
    with upload:
        yield None
        meter = ProgressMeter(upload.size, unit="B")
        meter.description = name
        yield meter.last()
        digest, lines, last = hashlib.sha256(), 0, b""
        began = time.monotonic()
        while chunk := upload.file.read(_chunk_bytes(bytes_per_second)):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk
            if event := meter.update(len(chunk)):
                yield event
            if bytes_per_second:
                # By the whole so far, so that what one wait is too long the next is shorter.
                stopped.wait(max(0.0, began + meter.n / bytes_per_second - time.monotonic()))
            if stopped.is_set():
                return None
        if not meter.is_told:
            yield meter.last()
        return {
            "sha256": digest.hexdigest(),
            "lines": lines + (bool(last) and not last.endswith(b"\n")),
            "bytes": upload.size,
            "name": name,
        }


def _chunk_bytes(bytes_per_second: int) -> int:
    if not bytes_per_second:
        return CHUNK_BYTES
    return min(CHUNK_BYTES, max(1, bytes_per_second // CHUNKS_PER_SECOND))
