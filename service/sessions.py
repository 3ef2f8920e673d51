"""Tokens, and the sessions that they open. No HTTP in here.

A session is a text that its holder cannot change: ``v1.SUBJECT.EXPIRY.MAC``, the MAC being HMAC-SHA256 under a key that is
derived from the subject's token. So nothing is kept on the server: every worker, and the same one after a restart, knows
the session; the token cannot be read off it; and a token that is changed or taken out ends all sessions that it opened.
What it cannot do is end one session before its time; that takes a new token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping

MIN_TOKEN_CHARACTERS = 16
# Of a header of 8 KiB, which is what servers take; whoever has a longer one has something else than a random token.
MAX_TOKEN_CHARACTERS = 512
MAX_SUBJECT_CHARACTERS = 128

#: RFC 6750, section 2.1: what may stand after ``Bearer``. No other token could ever be sent.
TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")

_VERSION = "v1"
_SESSION = re.compile(r"v1\.([A-Za-z0-9_-]*)\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
# Sets the key of sessions apart from whatever else may one day be derived from a token.
_PURPOSE = b"sse-kit session"


class Tokens:
    """Knows whose a token is, and opens and checks sessions. Immutable, hence thread-safe.

    ``tokens`` maps subjects to tokens, each of them another. ``seconds`` is how long a session lasts; ``clock`` gives the
    time in seconds since 1970, the same in all processes.
    """

    def __init__(self, tokens: Mapping[str, str], *, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self.seconds = seconds
        self._clock = clock
        # Known to nobody, so nobody can choose a token by its digest: how long a look-up takes then says nothing about
        # the tokens that are known, and it costs the same for one and for a thousand of them.
        self._digest_key = secrets.token_bytes(32)
        self._subjects = {self._digest(token): subject for subject, token in tokens.items()}
        self._keys = {subject: hmac.digest(token.encode(), _PURPOSE, "sha256") for subject, token in tokens.items()}
        self._no_key = secrets.token_bytes(32)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def subject(self, token: str) -> str | None:
        """Return whose token it is; None for one that nobody has."""
        return self._subjects.get(self._digest(token))

    def open(self, subject: str) -> str:
        """Return a new session of ``subject``, which must have a token."""
        text = f"{_VERSION}.{_encode(subject.encode())}.{int(self._clock()) + self.seconds}"
        return f"{text}.{self._mac(self._keys[subject], text)}"

    def check(self, session: str) -> str | None:
        """Return whose session it is; None for one that is over, was tampered with, or whose token has changed."""
        match = _SESSION.fullmatch(session)
        if match is None:
            return None
        try:
            subject = _decode(match[1]).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        # Also for a subject that nobody is: how long it takes shall not tell who has a token.
        expected = self._mac(self._keys.get(subject, self._no_key), session.rpartition(".")[0])
        if not hmac.compare_digest(match[3], expected) or int(match[2]) <= self._clock():
            return None
        return subject

    @staticmethod
    def ends_at(session: str) -> int:
        """Return when a session that `check` knows is over, in seconds since 1970."""
        return int(session.split(".")[2])

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._digest_key, token.encode(), "sha256")

    def _mac(self, key: bytes, text: str) -> str:
        return _encode(hmac.digest(key, text.encode(), "sha256"))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
