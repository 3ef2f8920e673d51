"""What ``/demo/`` shows: generators whose streams resume, and one generator for all viewers.

A generator waits on the event that ``abort`` sets, and so a run that is stopped, or that everybody has left, ends at once
and not after its pause.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import regex

from sse_core import Event, Hub

from .duty import Duty
from .settings import Settings
from .topics import COUNTER_TOPIC

LAST = "[DONE]"
# A wait that is longer is done in parts, between which the lease is renewed and a drain is seen.
STEP_SECONDS = 0.5

# A user-perceived character: an extended grapheme cluster (UAX #29), which may be several code points.
_characters = regex.compile(r"\X").findall


def tick(number: int, interval: float, stopped: threading.Event) -> Iterator[str]:
    """Yield ``number`` messages, each after ``interval`` seconds, and `LAST`; or end when ``stopped`` is set."""
    for i in range(1, number + 1):
        if stopped.wait(interval):
            return
        yield f"Message {i} of {number}"
    yield LAST


def echo(text: str, interval: float, stopped: threading.Event) -> Iterator[dict[str, str]]:
    """Yield the characters of ``text``, ``interval`` seconds apart, or end when ``stopped`` is set.

    A character is what a reader takes for one: a letter with its accents, a syllable of Devanagari, a family of emoji.
    """
    for i, character in enumerate(_characters(text)):
        if i and stopped.wait(interval):
            return
        yield {"event": "message", "data": character}


class Counter:
    """The source (see `topics`) of `COUNTER_TOPIC`: one counter for all viewers, of one process or of many.

    It counts while anybody listens, and begins where it was left. Each number is published once: its key is
    noted before, and the next number after (see `duty`).
    """

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._interval = settings.demo_counter_interval
        self._joins_processes = settings.joins_processes
        self._key = ""
        self._next = 0
        self._duty = Duty(
            COUNTER_TOPIC,
            hub,
            begin=self._begin,
            work=self._count,
            end=lambda: None,
            joins_processes=settings.joins_processes,
        )

    def start(self) -> None:
        """Start to count, unless started. The first number comes after one interval."""
        self._duty.start()

    def close(self) -> None:
        """Stop; another process may go on."""
        self._duty.close()

    def _begin(self, note: str | None) -> None:
        key, _, following = (note or "").partition(" ")
        if key and following.isdecimal():
            self._key, self._next = key, int(following)
        else:
            # At random: nobody who publishes can guess the keys of numbers, and so keep them from being published.
            self._key, self._next = secrets.token_hex(8), 0

    def _count(self) -> None:
        self._duty.note(f"{self._key} {self._next}")
        self._duty.ready()
        at = time.monotonic() + self._interval
        while not self._duty.is_over():
            self._duty.renew()
            left = at - time.monotonic()
            if left > 0:
                self._duty.stopped.wait(min(left, STEP_SECONDS))
                continue
            # From now, not from when it should have been: a machine that slept does not catch up with a burst.
            at = time.monotonic() + self._interval
            if self._is_heard():
                self._publish()

    def _publish(self) -> None:
        event = Event(f"message counter - {self._next}", id=f"{self._key}/{self._next}")
        if self._duty.publish([(COUNTER_TOPIC, event)]):
            self._next += 1
            self._duty.note(f"{self._key} {self._next}")

    def _is_heard(self) -> bool:
        # Of any topic: to ask for this topic's own would lock the hub for all.
        if self._hub.streams:
            return True
        return self._joins_processes and bool(self._hub.audience([COUNTER_TOPIC]).get(COUNTER_TOPIC))
