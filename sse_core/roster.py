"""What each stream of this process counts for until it ends: who it is for, on which topics, and which quotas it takes from.

Ten thousand streams may be ten thousand people. So what is known of one is a record of bytes outside Python, and names that
are only compared or counted are kept as their hashes: of a quota, of a credential, of who is on a topic. An equal hash of
somebody else (1 in 2^64 for each pair, and nobody can look for one unless PYTHONHASHSEED is set: Python's hashes are keyed)
would make two clients share a quota, end one stream softly, or count a listener wrong.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence

from sse_core.admission import Admission
from sse_core.tables import Counts, Records

# Of a record: the credential's hash, 0 for none; the bytes of the subject and one, 0 for none; how many quotas. Then their
# hashes, the subject, and its topics, whose names have no control character, with a line end between two.
_HEAD = struct.Struct("<QIH")
_HASH = struct.Struct("<Q")


class Roster:
    """Streams by number. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._records = Records()
        self._quotas = Counts()
        self._subjects = 0
        # From the first call of `changes` on: whose count may have changed since the last, and the counts by hash.
        self._changed: set[tuple[str, str]] | None = None
        self._counts = Counts()

    def __bool__(self) -> bool:
        return bool(self._records)

    def full(self, quotas: Mapping[str, int]) -> str | None:
        """The name of a quota that one more stream would exceed; None if there is room in all of them."""
        return next((name for name, most in quotas.items() if self.streams(name) >= most), None)

    def streams(self, quota: str) -> int:
        """How many streams take from a quota."""
        return self._quotas.count(_hash(quota))

    def enter(self, stream: int, admission: Admission, topics: Sequence[str], quotas: Mapping[str, int]) -> None:
        """A stream begins. Raises `MemoryError`, and then nothing has changed."""
        if not (admission.is_known or quotas):
            return
        credential = 0 if admission.credential is None else _hash(admission.credential)
        subject, told, size = b"", b"", 0
        if admission.subject is not None:
            subject = admission.subject.encode()
            told = "\n".join(topics).encode()
            size = len(subject) + 1
        hashes = [_hash(name) for name in quotas]
        record = _HEAD.pack(credential, size, len(hashes)) + b"".join(map(_HASH.pack, hashes)) + subject + told
        present: list[tuple[str, str]] = []
        if self._changed is not None and admission.subject is not None:
            present = [(topic, admission.subject) for topic in topics]
            self._changed.update(present)
        # All that can fail comes first: half of it would be taken back from others when the stream ends.
        self._quotas.reserve(len(hashes))
        self._counts.reserve(len(present))
        self._records.put(stream, record)
        self._subjects += size > 0
        for each in hashes:
            self._quotas.add(each)
        for key in present:
            self._counts.add(_hash(key))

    def leave(self, stream: int) -> str | None:
        """A stream has ended: return its subject; one of which nothing was known is none of ours."""
        record = self._records.pop(stream)
        if record is None:
            return None
        _, size, quotas = _HEAD.unpack_from(record)
        for number in range(quotas):
            (each,) = _HASH.unpack_from(record, _HEAD.size + number * _HASH.size)
            self._quotas.take(each)
        if not size:
            return None
        self._subjects -= 1
        subject, topics = _told(record)
        name = subject.decode()
        if self._changed is not None:
            for topic in topics:
                key = topic.decode(), name
                self._changed.add(key)
                self._counts.take(_hash(key))
        return name

    def find(self, *, subject: str | None = None, credential: str | None = None) -> list[int]:
        """The streams of a subject, or of a credential. It looks at all streams."""
        if credential is not None:
            wanted = _HASH.pack(_hash(credential))
            return [stream for stream, record in self._records.having(wanted) if record.startswith(wanted)]
        if subject is None or not self._subjects:
            return []
        name = subject.encode("utf-8", "surrogatepass")
        size = len(name) + 1
        return [
            stream
            for stream, record in self._records.having(name)
            if _HEAD.unpack_from(record)[1] == size and _told(record)[0] == name
        ]

    def presence(self, topic: str | None = None) -> dict[tuple[str, str], int]:
        """How many streams each (topic, subject) has, of one topic or of all. It looks at all streams."""
        if not self._subjects:
            return {}
        # A name that nobody can subscribe to is on no stream, and no error.
        only = None if topic is None else topic.encode("utf-8", "surrogatepass")
        found: Counter[tuple[bytes, bytes]] = Counter()
        for _, record in self._records.having(only or b""):
            if _HEAD.unpack_from(record)[1]:
                subject, topics = _told(record)
                found.update((each, subject) for each in topics if only is None or each == only)
        return {(each.decode(), subject.decode()): count for (each, subject), count in found.items()}

    def changes(self) -> dict[tuple[str, str], int]:
        """Whatever has another count in `presence` than when this was last called, 0 if none is left; at first, all of it.

        Some may have the same count again. Who asks now and then need not keep what was before, nor look at all streams.
        """
        if self._changed is None:
            self._changed = set()
            whole = self.presence()
            for key, count in whole.items():
                for _ in range(count):
                    self._counts.add(_hash(key))
            return whole
        changed, self._changed = self._changed, set()
        return {key: self._counts.count(_hash(key)) for key in changed}


def _hash(name: str | tuple[str, str]) -> int:
    """From 1 to 2^64 - 1."""
    return hash(name) % (1 << 64) or 1


def _told(record: bytes) -> tuple[bytes, list[bytes]]:
    """The subject in a record that has one, and its topics."""
    _, size, quotas = _HEAD.unpack_from(record)
    start = _HEAD.size + quotas * _HASH.size
    end = start + size - 1
    return record[start:end], record[end:].split(b"\n")
