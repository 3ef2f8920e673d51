"""Who is on which topic in this process: streams that were opened with a subject or a credential, until they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sse_core.admission import Admission


class Presence:
    """Streams by topic and subject. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        # Of a credential only its hash: an equal one of somebody else, if ever, ends one stream softly, and that is all.
        self._streams: dict[int, tuple[str | None, tuple[str, ...], int | None]] = {}
        # Streams of the same topics share one tuple of them.
        self._topics: dict[tuple[str, ...], list[Any]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._streams)

    def enter(self, stream: int, admission: Admission, topics: Sequence[str]) -> None:
        """A stream begins."""
        subject, credential = admission.subject, admission.credential
        shared = self._topics.setdefault(tuple(topics), [tuple(topics), 0])
        shared[1] += 1
        self._streams[stream] = subject, shared[0], None if credential is None else hash(credential)
        if subject is not None:
            self._counts.update((topic, subject) for topic in topics)

    def leave(self, stream: int) -> str | None:
        """A stream has ended: return its subject; one that had neither is none of ours."""
        subject, topics, _ = self._streams.pop(stream, (None, (), None))
        if topics:
            shared = self._topics[topics]
            shared[1] -= 1
            if not shared[1]:
                del self._topics[topics]
        if subject is None:
            return None
        for topic in topics:
            key = topic, subject
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
        return subject

    def find(self, *, subject: str | None = None, credential: str | None = None) -> list[int]:
        """The streams of a subject, or of a credential. It looks at all streams."""
        if credential is not None:
            wanted = hash(credential)
            return [stream for stream, (_, _, found) in self._streams.items() if found == wanted]
        return [stream for stream, (name, _, _) in self._streams.items() if name == subject]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many streams each (topic, subject) has."""
        return dict(self._counts)
