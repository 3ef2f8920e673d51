"""JSON Web Tokens (RFC 7519): from a text to an identity. No HTTP in here.

PyJWT checks the signature; what the token says is read here, strictly, since readers that differ about a repeated name or
a number that is none are how checks are got around (RFC 8725, section 2.4).
"""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jwt

from .grants import NOTHING, GrantError, Identity, parse
from .keys import ALGORITHMS, MAX_KID_CHARACTERS, Keys

#: What could be one: three parts, and no character that base64url has not.
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# No algorithm's own: it is only asked for by the name of the key that was chosen.
_SIGNATURES = jwt.PyJWS(algorithms=list(ALGORITHMS))

MAX_TEXT_CHARACTERS = 255
# Beyond the year 9999 a number is no time that anybody meant.
MAX_TIME = 253_402_300_799


class TokenError(ValueError):
    """A token is not accepted. The message says why, to whoever sent it, and holds nothing that is secret."""


class WebTokens:
    """Checks tokens. Thread-safe.

    ``algorithms`` are those that are accepted, of the keys that there are. ``issuer`` None accepts any, ``audience`` is one
    of those that a token must name. ``leeway`` is how far clocks may be apart, in seconds. ``claim`` has the grants.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        algorithms: Collection[str],
        issuer: str | None,
        audience: Sequence[str],
        leeway: float,
        claim: str,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._claim = claim
        self._max_bytes = max_bytes
        self._clock = clock

    def verify(self, token: str) -> Identity:
        """Return who a token says that its bearer is. Raises `TokenError`, and `KeysAwayError` if that cannot be told."""
        if len(token) > self._max_bytes:
            raise TokenError(f"The token has {len(token)} bytes; at most {self._max_bytes} are taken.")
        if not TOKEN.fullmatch(token):
            raise TokenError("The token is no JSON Web Token.")
        self._check_signature(token)
        return self._identity(_read(token.split(".")[1], "claims"))

    def _check_signature(self, token: str) -> None:
        header = _read(token.partition(".")[0], "header")
        algorithm, kid = header.get("alg"), header.get("kid")
        # Not text, it could not even be looked up.
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenError(f"The token's algorithm is none of {', '.join(sorted(self._algorithms))}.")
        if header.keys() & {"crit", "b64", "zip", "enc"}:
            # Extensions that have to be understood (RFC 7515, section 4.1.11), and we have none.
            raise TokenError("The token's header asks for what is not done here.")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARACTERS):
            raise TokenError("The token's kid is no short text.")
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise TokenError("The token is signed with no key that is known here.")
        try:
            _SIGNATURES.decode_complete(token, key.material, algorithms=[key.algorithm])
        except jwt.PyJWTError:
            raise TokenError("The token's signature is wrong.") from None

    def _identity(self, claims: dict[str, Any]) -> Identity:
        now = self._clock()
        expires = _time(claims, "exp")
        if expires is None:
            raise TokenError("The token has no exp: one that never ends is not taken.")
        if now >= expires + self._leeway:
            raise TokenError("The token has expired.")
        for name in ("nbf", "iat"):
            if now < (_time(claims, name) or 0) - self._leeway:
                raise TokenError(f"The token is not valid yet: {name} is to come.")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenError("The token is of another issuer.")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in self._audience for each in named):
            raise TokenError("The token is for another audience.")
        subject = _text(claims, "sub")
        if subject is None:
            raise TokenError("The token has no sub: whose it is must be told.")
        try:
            grants = parse(claims[self._claim]) if self._claim in claims else NOTHING
        except GrantError as error:
            raise TokenError(f"The token's claim {self._claim}: {error}") from None
        # A stream that began within the leeway ends with it, and not in the moment in which it begins.
        return Identity(subject, grants, expires + self._leeway, _text(claims, "jti"))


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token, which is not checked in any way. Raises `TokenError`."""
    if not TOKEN.fullmatch(token):
        raise TokenError("This is no JSON Web Token: three parts with dots between.")
    header, claims, _ = token.split(".")
    return _read(header, "header"), _read(claims, "claims")


def _read(part: str, what: str) -> dict[str, Any]:
    """Read one part as the JSON object that it must be."""
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # Of a number with too many digits, too.
        raise TokenError(f"The token's {what} cannot be read.") from None
    if not isinstance(found, dict):
        raise TokenError(f"The token's {what} is no object.")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _time(claims: dict[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    # A bool is an int to Python; 1e400 is read as infinity.
    if (
        isinstance(found, bool)
        or not isinstance(found, int | float)
        or not 0 <= found <= MAX_TIME
        or not math.isfinite(found)
    ):
        raise TokenError(f"The token's {name} is no time in seconds since 1970.")
    return float(found)


def _text(claims: dict[str, Any], name: str) -> str | None:
    found = claims.get(name)
    if found is None:
        return None
    if not isinstance(found, str) or not 0 < len(found) <= MAX_TEXT_CHARACTERS or not found.isprintable():
        raise TokenError(f"The token's {name} has 1 to {MAX_TEXT_CHARACTERS} printable characters.")
    return found
