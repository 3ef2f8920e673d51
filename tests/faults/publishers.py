"""Publishing at a steady rate over HTTP, by clients that keep asking until they know: one key an event, repeated unchanged.

Each topic belongs to one thread, which goes on to the next event only when the last was answered. So within a topic the
order of the numbers is the order of the ids, which is one more thing that the judge can look at.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

# Longer than a server that waits for its backplane: who hangs up first would learn less.
_TIMEOUT = 15.0
# Seconds between two attempts, the server's Retry-After notwithstanding: these clients are in a hurry.
_PAUSE = (0.1, 0.3)
_FAILURES = (OSError, http.client.HTTPException)


@dataclass
class Post:
    """One event that somebody wants published. Times are monotonic seconds."""

    topic: str
    #: Its number in the topic, from 0.
    number: int
    key: str
    data: str
    started: float = field(default_factory=time.monotonic)
    answered: float | None = None
    #: The id that the answer told; None as long as there was none.
    id: str | None = None
    attempts: int = 0


class Publishers:
    """Publishes for as long as the block lasts, or until `stop`: ``with Publishers(addresses, topics) as publishers``.

    ``rate`` is events a second, all threads together; what could not be published in time is left out, not caught up with.
    Every thread but the first sends single events; the first sends a batch with an event for each of its topics.
    ``size`` is the least number of bytes of an event's data.
    """

    def __init__(
        self, addresses: Sequence[str], topics: Sequence[str], *, rate: float = 80.0, threads: int = 4, size: int = 0
    ) -> None:
        self.topics = tuple(topics)
        #: Answers by status, and attempts without one by the kind of failure.
        self.answers: Counter[str] = Counter()
        #: Answers that no publisher should get, in their own words.
        self.refusals: list[str] = []
        #: The values of Retry-After that came with 503; None where it was missing.
        self.retry_after: list[str | None] = []
        self._addresses = list(addresses)
        self._size = size
        self._lock = threading.Condition()
        self._posts: list[Post] = []
        self._answered = 0
        self._burst = 1
        self._error: BaseException | None = None
        self._numbers: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        shares = [self.topics[index::threads] for index in range(min(threads, len(self.topics)))]
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(index, share, len(self.topics) / rate / (1 if is_batch else len(share)), is_batch),
                name=f"publisher {index}",
            )
            for index, share in enumerate(shares)
            for is_batch in (index == 0,)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._giving_up.set()
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def stop(self, seconds: float = 20.0) -> None:
        """Begin nothing new, and give what is under way so long to be answered."""
        self._stopping.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._giving_up.set()

    def burst(self, count: int) -> None:
        """Let the next batch be one of so many events of each of its topics."""
        with self._lock:
            self._burst = count

    def wait_for_answer(self, kind: str, seconds: float = 30.0) -> None:
        """Wait until another answer of this kind has come: a status, or the name of an exception."""
        with self._lock:
            seen = self.answers[kind]
            came = self._lock.wait_for(lambda: self.answers[kind] > seen, seconds)
            assert came, f"no answer {kind} came: {self.answers}"

    def posts(self) -> list[Post]:
        """All that was tried so far, in the order of beginning."""
        with self._lock:
            return list(self._posts)

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Wait until so many more events have been answered with success."""
        with self._lock:
            goal = self._answered + count
            published = self._lock.wait_for(lambda: self._answered >= goal, seconds)
            assert published, f"{goal - self._answered} of {count} events were not published: {self.answers}"

    def _run(self, index: int, topics: Sequence[str], interval: float, is_batch: bool) -> None:
        try:
            self._publish_all(index, topics, interval, is_batch)
        except BaseException as error:
            self._error = error
            raise

    def _publish_all(self, index: int, topics: Sequence[str], interval: float, is_batch: bool) -> None:
        client = _Client(self._addresses, random.Random(index))
        turn = 0
        due = time.monotonic()
        while not self._stopping.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + interval, time.monotonic())
            if is_batch:
                with self._lock:
                    count, self._burst = self._burst, 1
                self._publish(client, [self._begin(topic) for _ in range(count) for topic in topics])
            else:
                self._publish(client, [self._begin(topics[turn % len(topics)])])
            turn += 1
        client.close()

    def _begin(self, topic: str) -> Post:
        with self._lock:
            number = self._numbers[topic]
            self._numbers[topic] += 1
            data = f"{topic} {number}" + (" ".ljust(self._size, ".") if self._size else "")
            post = Post(topic, number, f"{topic}-{number}", data)
            self._posts.append(post)
            return post

    def _publish(self, client: _Client, posts: list[Post]) -> None:
        while True:
            for post in posts:
                post.attempts += 1
            try:
                status, retry_after, body = client.post(posts)
            except _FAILURES as error:
                self._count(type(error).__name__)
            else:
                self._count(str(status))
                if status == 200:
                    self._note(posts, body)
                    return
                with self._lock:
                    if status != 503:
                        self.refusals.append(f"{status} {body[:500]!r}")
                        return
                    self.retry_after.append(retry_after)
            if self._giving_up.wait(client.chance.uniform(*_PAUSE)):
                return

    def _count(self, kind: str) -> None:
        with self._lock:
            self.answers[kind] += 1
            self._lock.notify_all()

    def _note(self, posts: list[Post], body: bytes) -> None:
        now = time.monotonic()
        ids = [json.loads(line)["id"] for line in body.splitlines()]
        with self._lock:
            for post, event_id in zip(posts, ids, strict=True):
                post.id, post.answered = event_id, now
            self._answered += len(posts)
            self._lock.notify_all()


class _Client:
    """One connection at a time, kept alive, to a server chosen by chance; another after each failure."""

    def __init__(self, addresses: Sequence[str], chance: random.Random) -> None:
        self.chance = chance
        self._addresses = addresses
        self._connection: http.client.HTTPConnection | None = None

    def post(self, posts: Sequence[Post]) -> tuple[int, str | None, bytes]:
        """Publish in one request; return the status, Retry-After and the body. Raises `OSError` and `HTTPException`."""
        lines = [json.dumps({"topic": post.topic, "data": post.data, "id": post.key}).encode() for post in posts]
        kind = "application/json" if len(posts) == 1 else "application/x-ndjson"
        try:
            if self._connection is None:
                self._connection = _UnixConnection(self.chance.choice(self._addresses))
            self._connection.request("POST", "/publish", b"\n".join(lines), {"Content-Type": kind})
            response = self._connection.getresponse()
            answer = response.status, response.getheader("Retry-After"), response.read()
        except _FAILURES:
            self.close()
            raise
        if response.status != 200:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)
