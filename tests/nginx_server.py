"""A real nginx with the shipped configuration, for tests: one folder, one free port, stopped by its pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scripts.render_nginx import command, render
from tests.ports import free_port


def short_folder() -> Path:
    """Make a folder whose path leaves room for a unix socket's name (107 bytes in all), which pytest's own may not."""
    return Path(tempfile.mkdtemp(prefix="sse-"))


class Nginx:
    """``with Nginx(upstream="unix:...") as nginx``: listens on ``nginx.port`` of 127.0.0.1.

    ``replace`` changes literal text of nginx.conf, for bounds that cannot be reached otherwise.
    """

    def __init__(self, upstream: str, *, replace: tuple[str, str] | None = None, **site: Any) -> None:
        self.prefix = short_folder()
        self.port = free_port()
        self.config = render(self.prefix, listen=f"127.0.0.1:{self.port}", upstream=upstream, **site)
        if replace is not None:
            text = self.config.read_text()
            assert replace[0] in text
            self.config.unlink()
            self.config.write_text(text.replace(*replace))
        self.errors = self.prefix / "logs/error.log"
        self.access_log = self.prefix / "logs/access.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(command(self.prefix), stderr=errors)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.errors.read_text()
                assert time.monotonic() < deadline, self.errors.read_text()
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop it at once, its open connections too."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.prefix)
