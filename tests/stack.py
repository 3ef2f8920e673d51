"""The whole of sse-kit as it is deployed: the service under gunicorn on a unix socket, and nginx in front."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nginx_server import Nginx, short_folder
from tests.servers import Server, running_service

WAIT = 30.0


@dataclass(frozen=True)
class Stack:
    """Both processes. ``nginx.url`` is the page."""

    service: Server
    nginx: Nginx

    def publish(self, topic: str, data: object, **fields: object) -> str:
        """Publish one event through nginx and return its id."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=WAIT)) as connection:
            body = json.dumps({"topic": topic, "data": data, **fields})
            connection.request("POST", "/publish", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            receipt: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, receipt
            return str(receipt["id"])


@contextmanager
def running_stack(*, tls: tuple[str, Path, Path] | None = None, **settings: object) -> Iterator[Stack]:
    """Run both; ``settings`` are the service's. nginx's access log is the log ``nginx``."""
    folder = short_folder()
    log = folder / "access.log"
    try:
        with (
            running_service(logs={"nginx": log}, **settings) as service,
            # The inner one is stopped first: gunicorn lingers for the idle connections that nginx keeps.
            Nginx(service.url, access_log=str(log), tls=tls) as nginx,
        ):
            yield Stack(service, nginx)
    finally:
        shutil.rmtree(folder)
