"""The network between some servers and Redis, which a test can make swallow everything without closing anything."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 65536


class Proxy:
    """Passes bytes between its ``port`` and another one of 127.0.0.1: ``with Proxy(port) as proxy``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._swallowing = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="proxy")

    def swallow(self) -> None:
        """Pass nothing any more on the connections that there are, as a router that has lost its table. New ones work."""
        self._swallowing.set()

    def _run(self) -> None:
        with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping:
                ready = selector.select(0.02)
                if self._swallowing.is_set():
                    self._swallowing.clear()
                    for key in [key for key in selector.get_map().values() if key.data is not None]:
                        selector.unregister(key.fileobj)
                    continue
                for key, _ in ready:
                    if key.data is not None:
                        self._pass(selector, key.fileobj, key.data)  # type: ignore[arg-type]
                        continue
                    client, _ = self._listener.accept()
                    server = socket.create_connection(("127.0.0.1", self._target))
                    sockets.enter_context(client)
                    sockets.enter_context(server)
                    selector.register(client, selectors.EVENT_READ, server)
                    selector.register(server, selectors.EVENT_READ, client)

    def _pass(self, selector: selectors.BaseSelector, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(_CHUNK)
            sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (source, sink):
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(each)
                each.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join()
        self._listener.close()
