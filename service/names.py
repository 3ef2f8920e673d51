"""Which names clients may give to topics: the core's own rules, and a length and an alphabet of the settings.

What the server names itself, logs and watched keys and runs, is not asked.
"""

from __future__ import annotations

import re

from sse_core import TopicError

from .topics import RESERVED

#: The most that a topic's name has anywhere.
MAX_TOPIC_BYTES = 200

#: Named alphabets; None for the core's own, which is all of Unicode but control characters.
ALPHABETS = {
    "any": None,
    "ascii": "[ -~]",
    "url": "[A-Za-z0-9._~/:@-]",
}


class NameRefusedError(TopicError):
    """A name is not taken here. ``limit`` is the setting that says so."""

    def __init__(self, limit: str, reason: str) -> None:
        super().__init__(reason)
        self.limit = limit


class TopicNames:
    """Checks names that clients send. Immutable, hence thread-safe.

    ``characters`` is a key of `ALPHABETS` or a character class of a regular expression, such as ``[a-z0-9/]``. Raises
    `ValueError` for what is neither.
    """

    def __init__(self, max_bytes: int, characters: str) -> None:
        self._max_bytes = max_bytes
        self._characters = characters
        self._alphabet = compile_alphabet(characters)
        #: Whether every name that the core takes is taken.
        self.all = max_bytes >= MAX_TOPIC_BYTES and self._alphabet is None

    def check(self, topic: str) -> None:
        """Raise `NameRefusedError` for a name that is too long or has a character that is not in the alphabet."""
        if self.all or topic.startswith(RESERVED):
            return
        size = len(topic.encode("utf-8", "surrogatepass"))
        if size > self._max_bytes:
            raise NameRefusedError(
                "max_topic_bytes", f"a topic's name has at most {self._max_bytes} bytes in UTF-8 here, not {size}"
            )
        if self._alphabet is not None and not self._alphabet.fullmatch(topic):
            raise NameRefusedError(
                "topic_characters", f"a topic's name has only characters of {self._characters} here: {topic!r}"
            )


def compile_alphabet(characters: str) -> re.Pattern[str] | None:
    """Return what matches a name of that alphabet, in time linear in its length; None for any name."""
    if characters in ALPHABETS:
        found = ALPHABETS[characters]
    elif re.fullmatch(r"\[\^?\]?(\\.|[^\]\\])+\]", characters, re.DOTALL):
        found = characters
    else:
        raise ValueError(f"{characters!r} is none of {', '.join(ALPHABETS)} and no character class such as [a-z0-9/]")
    try:
        return None if found is None else re.compile(f"{found}*")
    except re.error as error:
        raise ValueError(f"{characters!r} is no character class: {error}") from None
