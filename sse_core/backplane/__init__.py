"""What a hub sits on: the protocol, and the implementations in modules of their own.

A backplane gives ids, in one order for the whole namespace, and hands every event of the namespace to the hub of each
process that shares it. The hub frames and fans out; a backplane knows no descriptor and no wire format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from sse_core.event import Event
from sse_core.topics import TopicOptions

#: Why a topic's history is dropped while streams listen: what the gap event says.
Reason = Literal["trimmed", "restart", "overflow"]


#: Texts that are kept under one name: whoever asks for the same thing, without a name of their own, shares them.
MOST_TEXTS = 1000


class Receipt(NamedTuple):
    """What a publisher gets back: the event's id on the wire, and whether the same key had been published before."""

    id: str
    duplicate: bool


class Beginning(NamedTuple):
    """Where a process joins a feed: the feed began after ``born``, and is complete here after ``horizon``; neither is 0."""

    born: int
    horizon: int


class Receiver(Protocol):
    """The part of a hub that its backplane sees: this process's topics. Ids are numbers (see `sse_core.ids`).

    The last five are for backplanes that join processes, and called by one thread at a time.
    """

    def options(self, topic: str) -> TopicOptions:
        """The bounds of a topic's history."""

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        """Frame one event and hand it to this process's loops: to all of them, or (False) to none, for want of room.

        ``number`` is its id, above all that were delivered before. Raises `EventError` if it is too large for ever.
        """

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        """The same for many events, in the order of their numbers: all of them or none."""

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """How many streams each topic of this process has, or each of these that is known; those without any have 0."""

    def presence(self, topic: str | None = None) -> dict[tuple[str, str], int]:
        """How many streams of this process each (topic, subject) has, of one topic or of all."""

    def presence_changes(self) -> dict[tuple[str, str], int]:
        """What may have another count now than at the last call, 0 if nobody is left; at the first, all of `presence`."""

    def sent(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """Of each finite topic (or of these) that has streams here and has not ended: the id up to which all were sent."""

    def fill(self, topic: str, floor: int, items: Sequence[tuple[int, Event]]) -> bool:
        """Open a topic with its history: what came after ``floor`` and not after the horizon. False: no room now.

        Raises `LimitError` if there may be no more topics.
        """

    def advance(self, horizon: int) -> None:
        """All topics are complete up to ``horizon``, though no event has that id."""

    def forget(self, topic: str, floor: int, reason: Reason) -> None:
        """Something up to ``floor`` is lost: drop the topic's history and tell its streams a gap with that id."""

    def restart(self, born: int, horizon: int) -> None:
        """The feed begins anew: drop all history and tell all streams a gap with the id ``horizon``."""

    def leave(self, topic: str) -> bool:
        """Close a topic that has no streams; False if it has some, or may be getting one."""


class Backplane(Protocol):
    """The seam between a hub and what joins processes. All methods are thread-safe.

    Those that ask a server raise `BackplaneError` if it cannot be reached or does not answer in time.
    """

    #: Whether several processes may use it for one namespace. It then keeps the history, and opens topics by `Receiver.fill`.
    joins_processes: bool

    @property
    def namespace(self) -> str:
        """The name of the feed."""

    def start(self, receiver: Receiver) -> Beginning:
        """Join the feed, in the process that serves. Nothing is delivered before `listen`."""

    def listen(self) -> None:
        """Begin to deliver."""

    def gave(self, number: int) -> bool:
        """Whether this feed can have given an id that is above its beginning. False: it is another feed's."""

    def open(self, topics: Sequence[str]) -> None:
        """See to it that the topics are complete here, history included. Raises `LimitError`, too."""

    def reach(self, number: int) -> bool:
        """Whether the feed has given an id above the horizon; if so, wait until the horizon is there."""

    def reach_present(self) -> None:
        """Wait until all that was published up to now, in whatever process, is delivered here as far as it is open."""

    def publish(self, topic: str, event: Event, *, attempt: str | None = None) -> Receipt:
        """Give the event an id and deliver it. ``event.id`` is an idempotency key. Raise `BusyError` if it cannot now.

        Calls with the same ``attempt`` publish once. Unlike a key it takes no key's place, and is for calls that failed.
        """

    def publish_many(self, items: Sequence[tuple[str, Event]]) -> list[Receipt]:
        """The same for many events, in order, all of them or none."""

    def is_available(self) -> bool:
        """Whether events flow: publishing can be expected to work and streams to be up to date."""

    def audience(self, topics: Sequence[str] | None = None) -> dict[str, int]:
        """Streams by topic, over all processes: of these topics, or of all that have any."""

    def presence(self, topic: str) -> dict[str, int]:
        """Streams of a topic by subject, over all processes, as far as streams have one."""

    def workers(self) -> list[str]:
        """The processes that share the namespace, by name."""

    def hold(self, lease: str, seconds: float, note: str | None) -> tuple[bool, str | None]:
        """Take or renew a lease: whether this process holds it, and the last note that a holder left."""

    def release(self, lease: str) -> None:
        """Give a lease back; its note stays."""

    def is_held(self, lease: str) -> bool:
        """Whether any process holds a lease."""

    def sent(self, topics: Sequence[str]) -> dict[str, int]:
        """Of those topics that have streams, over all processes: the id up to which all streams have been sent."""

    def remember(self, name: str, text: str, seconds: float) -> None:
        """Keep a text under a name for some time, beside those that are there."""

    def recall(self, name: str) -> list[str]:
        """The texts that are kept under a name, the newest first, at most `MOST_TEXTS`."""

    def kept(self, topic: str) -> list[Event]:
        """The topic's history, as far as the backplane itself keeps one, within the topic's bounds; the oldest first."""

    def topic_of(self, number: int, topics: Sequence[str]) -> str | None:
        """Which of these topics has an event with this id in the history that the backplane keeps, if any."""

    def stats(self) -> Mapping[str, int]:
        """Counters by name."""

    def close(self) -> None:
        """Stop delivering."""
