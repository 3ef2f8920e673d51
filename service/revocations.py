"""Who was shut out before the time: a list that all processes of the service have, and end streams by.

An entry is an event of the topic `REVOCATION_TOPIC`, which nobody can subscribe to, in the history that the backplane keeps.
So a process that starts reads all of them before it lets anybody in, and one that was away is brought up to date with its
feed. A process that is not up to date lets nobody in (`are_known`).

In a process with its events in memory the list is as old as the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec
import structlog

from sse_core import BackplaneError, BusyError, Event, HubClosedError, LimitError

from .backplane import DEFAULT_NAMESPACE
from .grants import GrantError, Identity, Patterns
from .topics import REVOCATION_HISTORY_FACTOR, REVOCATION_SECONDS, REVOCATION_TOPIC

if TYPE_CHECKING:
    from .namespaces import Namespaces

Kind = Literal["jti", "subject", "topic"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# As long as a claim of a token can be, and as a topic's name.
MAX_VALUE_CHARACTERS = 255
# What a request waits for another one that is reading the list.
JOIN_SECONDS = 1.0
# Between two attempts to come up to date.
RECOVERY_SECONDS = 1.0

_log = structlog.get_logger("sse_kit.revocations")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry. ``topic`` is a pattern (see `grants`); ``until`` is in seconds since 1970."""

    kind: Kind
    value: str
    until: int


_decode = msgspec.json.Decoder(Entry).decode


class Revocations:
    """The list of this process. Thread-safe. ``most`` entries at a time."""

    def __init__(self, namespaces: Namespaces, *, most: int, clock: Callable[[], float] = time.time) -> None:
        self._namespaces = namespaces
        self._hub = namespaces.find(DEFAULT_NAMESPACE).hub
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._joining = threading.Lock()
        self._following = False
        self._known = False
        self._losses = 0
        # Value -> when it ends. An answer is one look-up; only topics have patterns.
        self._entries: dict[Kind, dict[str, int]] = {"jti": {}, "subject": {}, "topic": {}}
        self._patterns: dict[str, Patterns] = {}
        # When each event was heard that the history may still have: of these there is a bound, too.
        self._heard: deque[float] = deque()
        #: Entries that could not be understood: another program writes into our topic.
        self.malformed = 0

    # ---- what it says ----

    def are_known(self) -> bool:
        """Whether the list is complete in this process, as far as can be told. Joins the feed if need be."""
        return (self._known or self._join()) and self._hub.is_available()

    def refuse(self, identity: Identity) -> bool:
        """Whether somebody is shut out, by name or by the token's id."""
        now = self._clock()
        if self._entries["subject"].get(identity.subject, 0) > now:
            return True
        return identity.token_id is not None and self._entries["jti"].get(identity.token_id, 0) > now

    def refuse_topics(self, topics: Sequence[str]) -> str | None:
        """The first of the topics that is closed, if any."""
        named = self._entries["topic"]
        if not named:
            return None
        now = self._clock()
        # A copy: another thread may add to it.
        closed = [pattern for text, pattern in tuple(self._patterns.items()) if named.get(text, 0) > now]
        for topic in topics:
            if named.get(topic, 0) > now or any(each.match(topic) for each in closed):
                return topic
        return None

    def entries(self) -> list[Entry]:
        """All entries that have not ended, those that end first first."""
        now = self._clock()
        with self._lock:
            found = [
                Entry(kind, value, until)
                for kind, values in self._entries.items()
                for value, until in values.items()
                if until > now
            ]
        return sorted(found, key=lambda entry: entry.until)

    # ---- what is told ----

    def add(self, entry: Entry) -> None:
        """Tell all processes. Raises `LimitError` (``max_revocations``) and what `Hub.publish` does."""
        with self._lock:
            self._forget()
            full = sum(map(len, self._entries.values())) >= self._most and entry.value not in self._entries[entry.kind]
            if full or len(self._heard) >= self._most * REVOCATION_HISTORY_FACTOR:
                # Beyond it the oldest would go out of the history, and with it somebody would come in again.
                raise LimitError("max_revocations", self._most)
        self._hub.publish(REVOCATION_TOPIC, Event(msgspec.json.encode(entry).decode()))
        # It is on its way to us as well. Who is told that it is done must not find it undone here.
        self._apply(entry)

    def _join(self) -> bool:
        # One thread at a time. Who comes with it when a worker starts waits a moment, or all of a crowd but one would be sent
        # away; no longer, since each holds a thread.
        if not self._joining.acquire(blocking=False):
            if self._joining.acquire(timeout=JOIN_SECONDS):
                self._joining.release()
            return self._known
        try:
            if not self._known:
                if not self._following:
                    self._hub.follow(REVOCATION_TOPIC, self._hear, self._lose)
                    self._following = True
                self._load()
        except (BackplaneError, BusyError, HubClosedError, LimitError) as error:
            _log.warning("revocations are not known", reason=str(error))
        finally:
            self._joining.release()
        return self._known

    def _load(self) -> None:
        losses = self._losses
        kept = self._hub.kept(REVOCATION_TOPIC)
        with self._lock:
            self._heard.clear()
        for event in kept:
            self._hear(event)
        with self._lock:
            # Only now, and unless something was lost meanwhile: nobody is let in by half a list.
            self._known = self._losses == losses

    def _hear(self, event: Event) -> None:
        """One event of the topic: on the thread that delivers, which must not wait."""
        try:
            entry = _decode(event.data or "")
            if entry.kind == "topic":
                Patterns([entry.value])
        except (msgspec.DecodeError, GrantError) as error:
            self.malformed += 1
            _log.error("an entry of the revocations cannot be understood", reason=str(error))
            return
        with self._lock:
            self._heard.append(self._clock())
        self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        with self._lock:
            values = self._entries[entry.kind]
            if values.get(entry.value, 0) >= entry.until or entry.until <= self._clock():
                return
            if entry.value not in values and sum(map(len, self._entries.values())) >= self._most:
                self._forget()
                if sum(map(len, self._entries.values())) >= self._most * REVOCATION_HISTORY_FACTOR:
                    # More than the history can have: no process of ours has told so many.
                    self.malformed += 1
                    _log.error("there are too many revocations: one is not known here", kind=entry.kind)
                    return
            values[entry.value] = entry.until
            # Names are found by a look-up; these have to be tried.
            if entry.kind == "topic" and "*" in entry.value:
                self._patterns[entry.value] = Patterns([entry.value])
        # The list first: a stream that begins now is either found below, or asks the list (`admit`) and is refused.
        for namespace in self._namespaces:
            if entry.kind == "jti":
                namespace.hub.evict(credential=entry.value)
            elif entry.kind == "subject":
                namespace.hub.evict(subject=entry.value)
            else:
                namespace.hub.evict(topics=Patterns([entry.value]).match)

    def _forget(self) -> None:
        """Drop what has ended. Under the lock."""
        now = self._clock()
        for values in self._entries.values():
            for value in [value for value, until in values.items() if until <= now]:
                del values[value]
        for text in self._patterns.keys() - self._entries["topic"].keys():
            del self._patterns[text]
        while self._heard and self._heard[0] < now - REVOCATION_SECONDS:
            self._heard.popleft()

    # ---- what is lost ----

    def _lose(self) -> None:
        """Events may be missing: on the thread that delivers, which must not wait."""
        with self._lock:
            self._losses += 1
            self._known = False
        threading.Thread(target=self._recover, name="revocations", daemon=True).start()

    def _recover(self) -> None:
        """Come up to date, and tell the others what a Redis that lost everything does not know any more."""
        while not self._join():
            if self._hub.draining:
                return
            time.sleep(RECOVERY_SECONDS)
        try:
            told = map(_entry_of, self._hub.kept(REVOCATION_TOPIC))
            known = {(entry.kind, entry.value): entry.until for entry in told if entry}
            for entry in self.entries():
                if known.get((entry.kind, entry.value), 0) < entry.until:
                    self._hub.publish(REVOCATION_TOPIC, Event(msgspec.json.encode(entry).decode()))
        except (BackplaneError, BusyError, HubClosedError, LimitError) as error:
            # With the next loss, or from another process. Here they are known in any case.
            _log.warning("revocations could not be told again", reason=str(error))


def _entry_of(event: Event) -> Entry | None:
    try:
        return _decode(event.data or "")
    except msgspec.DecodeError:
        return None
