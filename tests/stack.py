"""The whole of sse-kit as it is deployed: the service under gunicorn on a unix socket, and nginx in front."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.nginx_server import Nginx, short_folder

WAIT = 30.0


class Service:
    """``sse-kit serve`` on a unix socket in ``folder``. ``settings`` are its environment, without the prefix."""

    def __init__(self, folder: Path, *, logs: dict[str, Path], **settings: object) -> None:
        self.socket = folder / "s"
        self.log = folder / "gunicorn.log"
        self._environment = {
            **os.environ,
            **{f"SSE_KIT_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._command = [str(Path(sys.executable).with_name("sse-kit")), "serve", "--bind", f"unix:{self.socket}"]
        for name, path in logs.items():
            self._command += ["--log", f"{name}={path}"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready for streams."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT
        while not self._is_ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Send TERM and wait for the end: streams are sent away first."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(WAIT)

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(65536).split(b"\r\n")[0]
            except OSError:
                return False


class Stack:
    """``with Stack() as stack``: both run, and ``stack.nginx.url`` is the page. nginx's log is shown as ``nginx``."""

    def __init__(self, *, tls: tuple[str, Path, Path] | None = None, **settings: object) -> None:
        self.folder = short_folder()
        self.nginx = Nginx(f"unix:{self.folder}/s", tls=tls)
        self.service = Service(self.folder, logs={"nginx": self.nginx.access_log}, **settings)

    def publish(self, topic: str, data: object, **fields: object) -> str:
        """Publish one event through nginx and return its id."""
        connection = http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=WAIT)
        try:
            body = json.dumps({"topic": topic, "data": data, **fields})
            connection.request("POST", "/publish", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            receipt: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, receipt
            return str(receipt["id"])
        finally:
            connection.close()

    def __enter__(self) -> Self:
        try:
            self.service.start()
            self.nginx.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # nginx first: gunicorn lingers for the idle connections that nginx keeps.
        self.nginx.__exit__(None, None, None)
        self.service.stop()
        shutil.rmtree(self.folder)
