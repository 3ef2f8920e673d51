"""What a hub sits on: the protocol, and the implementations in modules of their own.

A backplane gives ids, in one order for the whole namespace, and hands every event of the namespace to the hub of each
process that shares it. The hub frames and fans out; a backplane knows no descriptor and no wire format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sse_core.event import Event


class Receipt(NamedTuple):
    """What a publisher gets back: the event's id on the wire, and whether the same key had been published before."""

    id: str
    duplicate: bool


class Receiver(Protocol):
    """The hub of one process, as its backplane sees it."""

    def deliver(self, topic: str, number: int, event: Event) -> bool:
        """Frame one event and hand it to this process's loops: to all of them, or (False) to none, for want of room.

        ``number`` is its id as a number (see `sse_core.ids`), above all that were delivered before.
        """

    def deliver_many(self, items: Sequence[tuple[str, int, Event]]) -> bool:
        """The same for many events, in the order of their numbers: all of them or none."""


class Backplane(Protocol):
    """The seam between a hub and what joins processes. All methods are thread-safe."""

    #: Whether several processes may use it for one namespace.
    joins_processes: bool

    def start(self, receiver: Receiver) -> int:
        """Begin. Return the number of the id after which the feed is complete; it is not 0."""

    def gave(self, number: int) -> bool:
        """Whether this feed can have given an id that is above its beginning. False: it is another feed's."""

    def publish(self, topic: str, event: Event) -> Receipt:
        """Give the event an id and deliver it. ``event.id`` is an idempotency key. Raise `BusyError` if it cannot now."""

    def publish_many(self, items: Sequence[tuple[str, Event]]) -> list[Receipt]:
        """The same for many events, in order, all of them or none."""

    def stats(self) -> dict[str, int]:
        """Counters by name."""

    def close(self) -> None:
        """Stop delivering."""
