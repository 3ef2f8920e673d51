"""Who is on which topic in this process: streams that were opened with a subject, until they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sse_core.errors import ConfigurationError


def check_subject(subject: object) -> None:
    """Raise `ConfigurationError` unless it is a str that can be told to other processes."""
    if not isinstance(subject, str):
        raise ConfigurationError(f"subject: must be str, not {type(subject).__name__}")
    try:
        subject.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError("subject: must be valid Unicode, without lone surrogates") from error


class Presence:
    """Streams by topic and subject. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._streams: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._streams)

    def enter(self, stream: int, subject: str, topics: Sequence[str]) -> None:
        """A stream begins."""
        self._streams[stream] = subject, tuple(topics)
        self._counts.update((topic, subject) for topic in topics)

    def leave(self, stream: int) -> None:
        """A stream has ended; one that had no subject is none of ours."""
        subject, topics = self._streams.pop(stream, ("", ()))
        for topic in topics:
            key = topic, subject
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many streams each (topic, subject) has."""
        return dict(self._counts)
