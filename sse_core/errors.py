"""Errors, split by whose fault they are. Pure Python, so that catching one needs no compiled code.

* `EventError`, `TopicError`, `ConfigurationError`, `MultiprocessError`: the caller's; repeating the call cannot help.
* `ParseError`: the remote end's, in what it sent.
* `BusyError`, `LimitError`: this process is full; the same call may succeed later.
* `BackplaneError`: the network's or the server's that joins processes.
* `HubClosedError`: the hub has ended.
* `ConflictError`: somebody else has done it before.
* `FailedError`, `StoppedError`: a run's own, see `sse_core.producer`.
"""

from __future__ import annotations

from typing import Any


class SSEError(Exception):
    """The base of everything that `sse_core` raises on its own account."""


class EventError(SSEError, ValueError):
    """A field of an event cannot be put on the wire (HTML standard, section 9.2.5).

    ``field`` names the argument (``"data"``, ``"event"``, ``"id"``, ``"retry"``, ``"comment"``) and ``reason`` says what
    is wrong with it. Nothing is ever repaired silently: a CR or LF let through would inject fields.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[EventError], tuple[str, str]]:
        return type(self), (self.field, self.reason)


class TopicError(SSEError, ValueError):
    """A topic's name is not one: empty, too long, or with a control character."""


class ConfigurationError(SSEError, ValueError):
    """An option of a hub contradicts itself or another one."""


class MultiprocessError(SSEError, RuntimeError):
    """A hub in memory was asked to serve one of several processes, which would each see their own events only."""


class ParseError(SSEError, ValueError):
    """What the remote end sent exceeds a bound of `EventParser`; the stream cannot be continued."""


class ForbiddenError(SSEError, PermissionError):
    """The hub's ``authorize`` refuses ``topic`` to whoever asks for it. A view answers with 403."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"the topic {topic!r} may not be subscribed to")
        self.topic = topic

    def __reduce__(self) -> tuple[type[ForbiddenError], tuple[str]]:
        return type(self), (self.topic,)


class LimitError(SSEError, RuntimeError):
    """A bound was reached. ``limit`` is its name in the hub's options, ``value`` what it is set to."""

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"{limit} is {value}, and that is reached")
        self.limit = limit
        self.value = value

    def __reduce__(self) -> tuple[type[LimitError], tuple[str, int]]:
        return type(self), (self.limit, self.value)


class BusyError(SSEError, RuntimeError):
    """Nothing was published: a loop's mailbox has no room. Wait ``retry_after`` seconds and repeat the call."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"a loop's mailbox is full; nothing was published; retry after {retry_after} s")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[BusyError], tuple[float]]:
        return type(self), (self.retry_after,)


class BackplaneError(SSEError, RuntimeError):
    """The server that joins processes cannot be reached, or did not answer in time.

    Whether anything was published is unknown. Wait ``retry_after`` seconds and repeat the call with the same ``id`` (the
    idempotency key): it is then published once, whatever became of the first attempt.
    """

    def __init__(self, retry_after: float, reason: str) -> None:
        super().__init__(f"{reason}; retry after {retry_after} s")
        self.retry_after = retry_after
        self.reason = reason

    def __reduce__(self) -> tuple[type[BackplaneError], tuple[float, str]]:
        return type(self), (self.retry_after, self.reason)


class HubClosedError(SSEError, RuntimeError):
    """The hub was closed; make a new one."""


class ConflictError(SSEError, RuntimeError):
    """The topic has a producer, or something is left of one: a finite topic is produced once."""


class StoppedError(SSEError, RuntimeError):
    """Whoever is told this shall come to an end: somebody stopped the run, or nobody listens any more."""


class FailedError(SSEError, RuntimeError):
    """Raised in a generator to end its run with a ``failed`` event that says why.

    ``message`` is shown to whoever listens, so it must hold nothing that they may not see. ``reason`` is for programs;
    ``members`` are JSON values that are added to the event's data.
    """

    def __init__(self, message: str, *, reason: str = "error", **members: Any) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.members = members
