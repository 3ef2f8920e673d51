"""The setting ``backplane``: which URLs there are, how one is told without its password, and what it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sse_core import Backplane, ConfigurationError, MemoryBackplane

if TYPE_CHECKING:
    from .settings import Settings

MEMORY = "memory"
# The namespace of /events and /publish; it always exists.
DEFAULT_NAMESPACE = "default"

# Scheme, credentials, the rest without a query. Credentials end at the only "@": were a second one let through, one of
# the two parts would be told as an address, and it could be the password.
_URL = re.compile(
    r"(?P<scheme>(?:redis|rediss|valkey|valkeys)(?:\+sentinel|\+cluster)?|unix)://"
    r"(?:[^@/?#]*@)?"
    r"(?P<place>[A-Za-z0-9_.:,\[\]~-]*(?:/[A-Za-z0-9_./~%+-]*)?)"
    r"(?:\?[^@#]*)?"
)


def check_backplane(text: str) -> str:
    """Return the setting's value, `MEMORY` for none. Raises ValueError, whose message never quotes the text."""
    if text in ("", MEMORY):
        return MEMORY
    found = _URL.fullmatch(text)
    if not found or not found["place"]:
        raise ValueError(
            "memory, redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://..., unix:///PATH, "
            "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or redis+cluster://HOST:PORT,... is expected; "
            "in a password write '@', '/', '?' and '#' as %40, %2F, %3F and %23"
        )
    return text


def describe(text: str) -> str:
    """Return a checked value for logs and answers: no user, no password, no options."""
    found = _URL.fullmatch(text)
    return f"{found['scheme']}://{found['place']}" if found else MEMORY


def create_backplanes(settings: Settings) -> Callable[[str], Backplane]:
    """Return what makes a namespace's backplane: in memory each its own, with Redis all on the same connections.

    They are values until first used. Raises `ConfigurationError`.
    """
    if not settings.joins_processes:
        return lambda namespace: MemoryBackplane(key_window=settings.key_window, max_keys=settings.max_keys)
    # Only here: who has no Redis needs no client for it.
    try:
        from sse_core import RedisBackplane
    except ImportError as error:
        raise ConfigurationError(
            f"backplane: the client of Redis is not installed ({error.name}): sse-kit[redis]"
        ) from None

    first = RedisBackplane(
        settings.backplane.get_secret_value(),
        key_window=settings.key_window,
        max_keys=settings.max_keys,
        timeout=settings.backplane_timeout,
        replicas=settings.backplane_replicas,
    )
    # Not a sibling for the default one too: the first would be left without a hub, and nobody would ever close it.
    return lambda namespace: first if namespace == DEFAULT_NAMESPACE else first.sibling(namespace)
