"""A server of event streams that is not ours: of the standard library, a thread for each stream, and faults on request."""

from __future__ import annotations

import json
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

#: What becomes of an event's data: what is sent to each stream of its topic, in order.
Policy = Callable[[str], list[str]]


def faithful(data: str) -> list[str]:
    """Send what was published."""
    return [data]


class SmallServer(ThreadingHTTPServer):
    """``GET /sub/TOPIC`` streams, ``POST /pub/TOPIC`` publishes the body's ``text``, ``POST /cut`` ends all streams.

    So many streams as `refusals` says get 500 instead.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, policy: Policy = faithful, *, refusals: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.policy = policy
        self.refusals = refusals
        self.lock = threading.Lock()
        self.streams: defaultdict[str, list[queue.Queue[str | None]]] = defaultdict(list)

    def cut(self) -> None:
        """End all streams; with the lock held."""
        for waiting in (each for streams in self.streams.values() for each in streams):
            waiting.put(None)
        self.streams.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: SmallServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        topic = urlsplit(self.path).path.rpartition("/")[2]
        assert not parse_qs(urlsplit(self.path).query)
        with self.server.lock:
            refused, self.server.refusals = self.server.refusals > 0, self.server.refusals - 1
        if refused:
            self.send_error(500)
            return
        waiting: queue.Queue[str | None] = queue.Queue()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk("retry: 50\n\n")
        with self.server.lock:
            self.server.streams[topic].append(waiting)
        try:
            while (data := waiting.get()) is not None:
                self._chunk(f"data: {data}\n\n")
        except OSError:
            # The client has left.
            self.close_connection = True
            return
        self._chunk("")

    def _chunk(self, text: str) -> None:
        body = text.encode()
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        with self.server.lock:
            if self.path == "/cut":
                self.server.cut()
            else:
                for data in self.server.policy(body["text"]):
                    for waiting in self.server.streams[self.path.rpartition("/")[2]]:
                        waiting.put(data)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


#: How it is asked.
TEMPLATES = ("--subscribe-url", "/sub/{topic}", "--publish-url", "/pub/{topic}", "--publish-body", '{"text": "{data}"}')


@contextmanager
def small_server(policy: Policy = faithful, *, refusals: int = 0) -> Iterator[SmallServer]:
    """Run one until the block ends."""
    with SmallServer(policy, refusals=refusals) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            with server.lock:
                server.cut()
            server.shutdown()
            thread.join()
