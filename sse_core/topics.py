"""Topics: what may be a name, and the options that a name gets by pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal, get_args

from sse_core.errors import ConfigurationError, TopicError

MAX_NAME_BYTES = 200

Policy = Literal["disconnect", "skip", "latest"]


@dataclass(frozen=True, kw_only=True)
class TopicOptions:
    """The bounds of a topic's log, and what happens to a subscriber that cannot keep up.

    ``history_events``, ``history_bytes`` (framed), ``history_age`` (seconds; 0 for no bound): the log holds the newest
    events within all three. The log is also the queue of subscribers that lag, so one event is the least it can hold.
    ``lag_bytes``: how far a blocked subscriber may fall behind before ``policy`` applies. What it has still to replay counts
    too, so less than ``history_bytes`` can hit one that resumes and has done nothing wrong but being away:

    * ``disconnect``: it is closed, comes back with its last id, and replays what it missed;
    * ``skip``: it goes on at the newest event, and is told a gap;
    * ``latest``: only the newest event counts. Whenever it was blocked it gets that one only, and a new subscriber gets
      the current one first.

    ``ends``: the topic is finite. An event named ``done`` or ``failed`` is its last, and nobody is sent what is published
    after it (``events_after_end``). Streams of finite topics alone are closed behind it, and who comes back then is told
    that there is no more (204). A stream that names no id begins with the first event that is left, so that a page that is
    loaded again shows all of it.
    """

    policy: Policy = "disconnect"
    history_events: int = 1000
    history_bytes: int = 1 << 20
    history_age: float = 3600.0
    lag_bytes: int = 1 << 20
    ends: bool = False

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ConfigurationError(f"policy: {self.policy!r} is none of {', '.join(get_args(Policy))}")
        for name in ("history_events", "history_bytes", "lag_bytes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: must be at least 1")
        if self.history_age < 0:
            raise ConfigurationError("history_age: must not be negative")


#: Topics of producers, unless they are given another name.
RUN_PREFIX = "run/"
#: Room for all of an answer: who comes back, or comes late, is shown it from its beginning.
RUN_OPTIONS = TopicOptions(ends=True, history_events=100_000, history_bytes=8 << 20, lag_bytes=8 << 20)

#: The names of a finite topic's last event.
DONE = "done"
FAILED = "failed"
LAST_EVENTS = frozenset({DONE, FAILED})


class TopicRules:
    """Shell-style patterns with the options of the topics that match; the first match counts."""

    def __init__(self, rules: Mapping[str, TopicOptions]) -> None:
        # Last, so that an application's own rule for the same names comes first.
        every = [*rules.items(), (RUN_PREFIX + "*", RUN_OPTIONS)]
        self._rules = [(re.compile(translate(pattern)), options) for pattern, options in every]
        self._default = TopicOptions()

    def options(self, topic: str) -> TopicOptions:
        """The options of a topic."""
        return next((options for pattern, options in self._rules if pattern.match(topic)), self._default)


def check_topic(name: object) -> str:
    """Return a topic's name, or raise `TopicError`: a str of 1 to 200 bytes of UTF-8, no control character, no outer space."""
    if not isinstance(name, str):
        raise TopicError(f"a topic's name is a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise TopicError("a topic's name must be valid Unicode, without lone surrogates") from error
    if not 1 <= size <= MAX_NAME_BYTES:
        raise TopicError(f"a topic's name has 1 to {MAX_NAME_BYTES} bytes in UTF-8, not {size}")
    if name != name.strip():
        raise TopicError(f"a topic's name must not begin or end with white space: {name!r}")
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
        raise TopicError(f"a topic's name must not have control characters: {name!r}")
    return name
