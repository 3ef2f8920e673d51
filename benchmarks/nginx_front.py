"""nginx with the shipped configuration in front of a server, as one more server."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sse_kit.nginxkit.files import render
from sse_kit.nginxkit.program import command, find
from sse_kit.nginxkit.site import Site

from .effort import Effort
from .harness import START_SECONDS, BenchmarkError, Server, children, connect, free_port, last_words, running

#: Streams that its one worker has room for.
STREAMS = 9_112


@dataclass(frozen=True)
class Front:
    """nginx and what is behind it. The client sees `server`, whose CPU time is that of both."""

    server: Server
    #: The access log, a JSON object a line.
    log: Path

    def sent_away(self) -> int:
        """Return how many requests the server behind did not take, as far as they have ended."""
        lines = self.log.read_text().splitlines()
        return sum(json.loads(line)["upstream_status"].startswith("50") for line in lines)


@contextlib.contextmanager
def nginx_front(behind: Server, effort: Effort) -> Iterator[Front]:
    """Run nginx with one worker in front of a server, on the same core, listening on TCP as nginx does."""
    program = find()
    if program is None:
        raise BenchmarkError("nginx is not installed")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        prefix = Path(folder)
        address = f"127.0.0.1:{free_port()}"
        site = Site(listen=[address], upstream=[behind.address], workers=1, streams=STREAMS)
        render(prefix, site, version=program.version)
        with running(command(prefix, program), effort.core, log=log, stdout=log) as process:
            deadline = time.monotonic() + START_SECONDS
            while not _accepts(address) or not (workers := children(process.pid)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"nginx did not start: {last_words(log)}")
                time.sleep(0.01)
            pids = (process.pid, *workers, *behind.pids)
            yield Front(Server(address, pids, behind.options), prefix / "logs/access.log")


def _accepts(address: str) -> bool:
    with contextlib.suppress(OSError):
        connect(address).close()
        return True
    return False
