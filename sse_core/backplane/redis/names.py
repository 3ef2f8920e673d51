"""The names of a namespace's keys and channels in Redis. docs/redis.md lists them with what they hold."""

from __future__ import annotations

import re

from sse_core.errors import ConfigurationError

MAX_NAMESPACE = 64
_NAMESPACE = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAMESPACE}}}")


def check_namespace(name: object) -> str:
    """Return a namespace's name, or raise `ConfigurationError`: 1 to 64 of the characters A-Z, a-z, 0-9, _, . and -.

    It is the hash tag of all its keys, which a brace would end early: they would then lie in several slots of a Cluster.
    """
    if not isinstance(name, str) or not _NAMESPACE.fullmatch(name):
        raise ConfigurationError(f"namespace: must be 1 to {MAX_NAMESPACE} of A-Z, a-z, 0-9, _, . and -, not {name!r}")
    return name


class Names:
    """All keys and channels of one namespace, as bytes. Immutable, so safe to share between threads.

    Raises `ConfigurationError` for a name that is none (see `check_namespace`).
    """

    __slots__ = (
        "_live",
        "_prefix",
        "batches",
        "batches_old",
        "beat",
        "clock",
        "keys",
        "keys_old",
        "namespace",
        "workers",
    )

    def __init__(self, namespace: str) -> None:
        self.namespace = check_namespace(namespace)
        self._prefix = prefix = b"{%b}:" % namespace.encode()
        self.clock = prefix + b"clock"
        self.keys = prefix + b"keys"
        self.keys_old = prefix + b"keys:old"
        self.batches = prefix + b"batches"
        self.batches_old = prefix + b"batches:old"
        self.workers = prefix + b"workers"
        #: The channel of the namespace's clock.
        self.beat = prefix + b"beat"
        self._live = prefix + b"live:"

    def topic(self, topic: str) -> bytes:
        """The stream that holds a topic's history."""
        return b"%btopic:%b" % (self._prefix, topic.encode())

    def tail(self, topic: str) -> bytes:
        """The id of a topic's last event."""
        return b"%btail:%b" % (self._prefix, topic.encode())

    def lease(self, lease: str) -> bytes:
        """A lease, with its owner and note."""
        return b"%blease:%b" % (self._prefix, lease.encode())

    def texts(self, name: str) -> bytes:
        """The texts that are kept under a name."""
        return b"%btexts:%b" % (self._prefix, name.encode())

    def sent(self, worker: str) -> bytes:
        """Up to which id a worker has sent each finite topic to its streams."""
        return b"%bsent:%b" % (self._prefix, worker.encode())

    def worker(self, worker: str) -> bytes:
        """How many streams a worker has, by topic."""
        return b"%bworker:%b" % (self._prefix, worker.encode())

    def present(self, worker: str) -> bytes:
        """How many streams a worker has, by topic and subject."""
        return b"%bpresent:%b" % (self._prefix, worker.encode())

    def live(self, topic: str) -> bytes:
        """The channel of what is published into a topic."""
        return self._live + topic.encode()

    def topic_of(self, channel: bytes) -> str | None:
        """The topic of a channel made by `live`; None for any other channel."""
        return channel[len(self._live) :].decode() if channel.startswith(self._live) else None
