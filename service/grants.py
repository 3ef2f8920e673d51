"""What an identity may do: patterns of topics, and rights. No HTTP, no token in here.

A pattern is a topic's name whose segments, between slashes, may be ``*``: any one segment. A last segment ``**`` is one or
more. There is nothing else, so that a match costs one comparison for each segment, whatever the pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sse_core import TopicError, check_topic

from .backplane import DEFAULT_NAMESPACE
from .topics import RESERVED

MAX_PATTERNS = 100
MAX_NAMESPACES = 100

#: What may be started: a generation, a job on a file, a demonstration.
STARTS = ("generate", "jobs", "demo")

_MEMBERS = ("subscribe", "publish", "start", "metrics", "admin", "namespaces")


class GrantError(ValueError):
    """What is said of rights is not well formed. The message names the member, and can be encoded whatever that is called."""

    def __init__(self, message: str) -> None:
        # JSON can name halves of characters, and an answer cannot.
        super().__init__(message.encode(errors="backslashreplace").decode())


class Patterns:
    """A set of patterns. Immutable. Raises `GrantError`."""

    __slots__ = ("_exact", "_wild", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self._exact = frozenset(text for text in self.texts if "*" not in text)
        self._wild = [_split(text) for text in self.texts if "*" in text]
        for text in self._exact:
            _check_name(text)

    def match(self, topic: str) -> bool:
        """Whether one of them matches. A first segment ``*`` or ``**`` matches no topic of the server's own."""
        if topic in self._exact:
            return True
        if not self._wild:
            return False
        segments = topic.split("/")
        reserved = topic.startswith(RESERVED)
        return any(_match(segments, pattern, is_open, reserved) for pattern, is_open in self._wild)


def _split(text: str) -> tuple[tuple[str, ...], bool]:
    """A pattern's segments, without the last one if it is ``**``, and whether it was."""
    _check_name(text)
    segments = text.split("/")
    is_open = segments[-1] == "**"
    if is_open:
        segments.pop()
    if any("*" in segment and segment != "*" for segment in segments):
        raise GrantError(
            f"{text!r} is no pattern: * stands for a whole segment, and ** for all that follow, at the end"
        )
    return tuple(segments), is_open


def _check_name(text: str) -> None:
    try:
        check_topic(text)
    except TopicError as error:
        raise GrantError(f"{text[:100]!r} is no pattern: {error}") from None


def _match(segments: list[str], pattern: tuple[str, ...], is_open: bool, reserved: bool) -> bool:
    if len(segments) <= len(pattern) if is_open else len(segments) != len(pattern):
        return False
    if reserved and (not pattern or pattern[0] == "*"):
        return False
    return all(wanted in ("*", found) for wanted, found in zip(pattern, segments, strict=False))


_NONE = Patterns(())


@dataclass(frozen=True, slots=True)
class Grants:
    """Rights. ``everything`` is all of them; else ``topics`` has those to subscribe and to publish, by namespace."""

    topics: Mapping[str, tuple[Patterns, Patterns]]
    start: frozenset[str] = frozenset()
    metrics: bool = False
    admin: bool = False
    everything: bool = False

    def may_subscribe(self, namespace: str, topic: str) -> bool:
        """Whether events of the topic may be received."""
        return self.everything or self.topics.get(namespace, (_NONE, _NONE))[0].match(topic)

    def may_publish(self, namespace: str, topic: str) -> bool:
        """Whether events may be published on the topic."""
        return self.everything or self.topics.get(namespace, (_NONE, _NONE))[1].match(topic)

    def may_start(self, what: str) -> bool:
        """Whether one of `STARTS` may be started."""
        return self.everything or what in self.start

    @property
    def may_stop(self) -> bool:
        """Whether a run may be stopped, by who knows its name: whoever may start something may."""
        return self.everything or bool(self.start)

    @property
    def may_read_metrics(self) -> bool:
        """Whether counters may be read, where not everybody may."""
        return self.everything or self.metrics

    @property
    def may_administer(self) -> bool:
        """Whether tokens and subjects may be revoked."""
        return self.everything or self.admin


EVERYTHING = Grants({}, everything=True)
NOTHING = Grants({})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request, with which rights, until when (seconds since 1970), and the id of the token that says so."""

    subject: str
    grants: Grants
    expires: float | None = None
    token_id: str | None = None


def parse(value: object) -> Grants:
    """Return the rights that a claim, or a setting, describes. Raises `GrantError`: nothing is passed over.

    ``{"subscribe": [PATTERN], "publish": [PATTERN], "start": [WHAT], "metrics": BOOL, "admin": BOOL, "namespaces": {NAME:
    {"subscribe": ..., "publish": ...}}}``; all of it may be missing. The first two are about the default namespace.
    """
    members = _object(value, _MEMBERS, "grants")
    topics = {DEFAULT_NAMESPACE: _topics(members, "")}
    others = members.get("namespaces", {})
    if not isinstance(others, dict) or len(others) > MAX_NAMESPACES:
        raise GrantError(f"namespaces: an object with at most {MAX_NAMESPACES} members is expected")
    for name, each in others.items():
        if name == DEFAULT_NAMESPACE:
            raise GrantError(f"namespaces: {name!r} is what subscribe and publish beside it are about")
        topics[name] = _topics(
            _object(each, ("subscribe", "publish"), f"namespaces.{name[:64]}"), f"namespaces.{name[:64]}."
        )
    for name in ("metrics", "admin"):
        if not isinstance(members.get(name, False), bool):
            raise GrantError(f"{name}: true or false is expected")
    start = _texts(members, "start", "")
    for each in start:
        if each not in STARTS:
            raise GrantError(f"start: {each[:64]!r} is none of {', '.join(STARTS)}")
    return Grants(topics, frozenset(start), members.get("metrics", False), members.get("admin", False))


def describe(grants: Grants) -> dict[str, Any]:
    """Return rights in the form that `parse` takes; ``{"everything": true}`` for all of them."""
    if grants.everything:
        return {"everything": True}
    default, *others = [
        (name, {"subscribe": list(subscribe.texts), "publish": list(publish.texts)})
        for name, (subscribe, publish) in grants.topics.items()
    ]
    rest = {"namespaces": dict(others)} if others else {}
    return {**default[1], "start": sorted(grants.start), "metrics": grants.metrics, "admin": grants.admin, **rest}


def _topics(members: Mapping[str, object], where: str) -> tuple[Patterns, Patterns]:
    return Patterns(_texts(members, "subscribe", where)), Patterns(_texts(members, "publish", where))


def _object(value: object, known: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GrantError(f"{where}: an object is expected")
    for name in value:
        if name not in known:
            raise GrantError(f"{where}: there is no member {str(name)[:64]!r}; there are {', '.join(known)}")
    return value


def _texts(members: Mapping[str, object], name: str, where: str) -> list[str]:
    found = members.get(name, [])
    if not isinstance(found, list) or len(found) > MAX_PATTERNS or not all(isinstance(each, str) for each in found):
        raise GrantError(f"{where}{name}: an array of at most {MAX_PATTERNS} strings is expected")
    return found
