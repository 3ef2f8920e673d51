"""What processes of a run say to each other, over locust's own messages; and its phases.

``PRIME``: all streams are there; publishers send marks until each stream has received one of each of its topics.
``GO``: publishing, from a moment on that is said. ``DRAIN``: publishers end what they are at. ``SETTLE``: everybody knows how
much was published, and waits for it. ``JUDGE``: what has not come by now is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loadtest.ledger import Final, Place

# From the coordinator: a phase, the time.
PHASE = "sse-phase"
TIME = "sse-time"
# To the coordinator.
PROGRESS = "sse-progress"
VERDICT = "sse-verdict"
ASK_TIME = "sse-ask-time"

SPAWN = "spawn"
PRIME = "prime"
GO = "go"
#: No phase of its own: the scenario's disturbance, while publishing goes on.
DISTURB = "disturb"
DRAIN = "drain"
SETTLE = "settle"
JUDGE = "judge"


def finals_to(finals: Mapping[Place, Final]) -> list[Any]:
    """Return what was published as what can be sent."""
    return [(source, topic, last, sorted(unknown)) for (source, topic), (last, unknown) in finals.items()]


def finals_from(message: Iterable[Any]) -> dict[Place, Final]:
    """Return what `finals_to` was made of."""
    return {(source, topic): Final(last, frozenset(unknown)) for source, topic, last, unknown in message}
