"""Who is on which topic in this process: streams that were opened with a subject or a credential, until they end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from sse_core.admission import Admission


class Presence:
    """Streams by topic and subject. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        # Of each stream the hash of its credential, then what it counts for. Of a credential the hash will do: an equal one of
        # somebody else, if ever, ends one stream softly, and that is all.
        self._streams: dict[int, tuple[int | None, tuple[tuple[str, str], ...] | tuple[str, str] | None]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._streams)

    def enter(self, stream: int, admission: Admission, topics: Sequence[str]) -> None:
        """A stream begins."""
        subject, credential = admission.subject, admission.credential
        kept = None if credential is None else hash(credential)
        if subject is None:
            self._streams[stream] = kept, None
            return
        # Each request brings names of its own: one object for all streams of a topic.
        keys = tuple((sys.intern(str(topic)), subject) for topic in topics)
        # Nearly all have one topic, and a tuple for it would be a tenth of all that is kept.
        self._streams[stream] = kept, keys[0] if len(keys) == 1 else keys
        self._counts.update(keys)

    def leave(self, stream: int) -> str | None:
        """A stream has ended: return its subject; one that had neither is none of ours."""
        _, found = self._streams.pop(stream, (None, None))
        keys = _keys(found)
        for key in keys:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
        return keys[0][1] if keys else None

    def find(self, *, subject: str | None = None, credential: str | None = None) -> list[int]:
        """The streams of a subject, or of a credential. It looks at all streams."""
        if credential is not None:
            wanted = hash(credential)
            return [stream for stream, (kept, _) in self._streams.items() if kept == wanted]
        return [stream for stream, (_, found) in self._streams.items() if found and _keys(found)[0][1] == subject]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many streams each (topic, subject) has."""
        return dict(self._counts)


def _keys(found: tuple[tuple[str, str], ...] | tuple[str, str] | None) -> tuple[tuple[str, str], ...]:
    """What a stream counts for, however it is kept."""
    if found is None:
        return ()
    return (found,) if isinstance(found[0], str) else found
