"""Keys that tokens are signed with. Each is of one algorithm, its type's own: no key can be used as what it is not.

The algorithm that a token names only chooses among the keys of that algorithm. So a public key is never the secret of an
HMAC, whatever a token says (RFC 8725, section 3.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192  # section 3.3; a longer one makes each token cost too much
MAX_RSA_EXPONENT = 1 << 32
MAX_KEYS = 100
MAX_KID_CHARACTERS = 256

_PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


class KeyRefusedError(ValueError):
    """A text is no key that tokens can be checked with. The message never holds the text."""


class KeysAwayError(Exception):
    """No key can be had now: whether a token is good is not known. Worth another try in ``retry_after`` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the keys that tokens are checked with cannot be had")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``material`` is what PyJWT takes; ``kid`` is None for one without a name."""

    kid: str | None
    algorithm: str
    material: Any


class Keys(Protocol):
    """Where keys come from. Thread-safe."""

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key of that name, or without a name the only one, of that algorithm. Raises `KeysAwayError`."""


class KeySet:
    """Keys that do not change. Raises `KeyRefusedError` for two of one name and algorithm, and for too many."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        if len(self.keys) > MAX_KEYS:
            raise KeyRefusedError(f"{len(self.keys)} keys are more than {MAX_KEYS}")
        self._by_name = {(key.kid, key.algorithm): key for key in self.keys}
        if len(self._by_name) < len(self.keys):
            raise KeyRefusedError("two keys of one algorithm have the same kid: which one is meant could not be told")

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """See `Keys.find`."""
        if kid is not None:
            return self._by_name.get((kid, algorithm))
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        # Of several none: to try them all would let everybody choose what a token costs us.
        return fitting[0] if len(fitting) == 1 else None


def from_text(kid: str | None, text: str) -> Key:
    """Return the key that a text is: a public key in PEM, or else the secret of an HMAC. Raises `KeyRefusedError`."""
    if "-----BEGIN" in text:
        try:
            return _public(kid, load_pem_public_key(text.encode()))
        except (ValueError, UnsupportedAlgorithm):
            raise KeyRefusedError("no public key in PEM (BEGIN PUBLIC KEY); a private one has no place here") from None
    if text.lstrip().startswith(("ssh-", "ecdsa-", "{")):
        raise KeyRefusedError("a public key is given in PEM (BEGIN PUBLIC KEY), or in a file as a JSON Web Key Set")
    return _secret(kid, text.encode())


def from_document(text: bytes, *, secrets: bool) -> KeySet:
    """Return the keys of a JSON Web Key Set (RFC 7517). Those of other uses, types and algorithms are passed over.

    ``secrets``: whether it may have some. Raises `KeyRefusedError` for what is no set, and if nothing of it can be used.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyRefusedError("no JSON") from None
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise KeyRefusedError('no JSON Web Key Set: {"keys": [...]}')
    if len(found) > MAX_KEYS:
        raise KeyRefusedError(f"{len(found)} keys are more than {MAX_KEYS}")
    keys: dict[tuple[str | None, str], Key] = {}
    reasons = []
    for each in found:
        try:
            key = _from_jwk(each, secrets=secrets)
        except KeyRefusedError as error:
            reasons.append(str(error))
            continue
        if keys.setdefault((key.kid, key.algorithm), key) is not key:
            raise KeyRefusedError("two keys of one algorithm have the same kid: which one is meant could not be told")
    if not keys:
        raise KeyRefusedError(
            f"none of {len(found)} keys can be used: {'; '.join(sorted(set(reasons))) or 'there is none'}"
        )
    return KeySet(keys.values())


def _from_jwk(jwk: object, *, secrets: bool) -> Key:
    if not isinstance(jwk, dict):
        raise KeyRefusedError("a key is no object")
    kid, kty = jwk.get("kid"), jwk.get("kty")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARACTERS):
        raise KeyRefusedError("a kid is no short text")
    if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise KeyRefusedError("a key's kty is none of RSA, EC, OKP, oct")
    if jwk.get("use", "sig") != "sig" or "verify" not in _operations(jwk):
        raise KeyRefusedError("a key is not for signatures")
    if kty == "oct" and not secrets:
        raise KeyRefusedError("a secret is in a document that others can read")
    # Without the private part, if there is one.
    public = {"kty": kty} | {name: jwk[name] for name in _PUBLIC_MEMBERS[kty] if isinstance(jwk.get(name), str)}
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA", "oct": "HS256"}[kty]
    try:
        material = get_default_algorithms()[algorithm].from_jwk(public)
    except (InvalidKeyError, ValueError, KeyError, TypeError):
        raise KeyRefusedError(f"a key of type {kty} is malformed") from None
    key = _secret(kid, material) if kty == "oct" else _public(kid, material)
    if jwk.get("alg", key.algorithm) != key.algorithm:
        raise KeyRefusedError(f"a key is not for {key.algorithm}")
    return key


def _operations(jwk: Mapping[str, object]) -> list[object]:
    operations = jwk.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _secret(kid: str | None, secret: bytes) -> Key:
    if len(secret) < MIN_SECRET_BYTES:
        raise KeyRefusedError(f"a secret has at least {MIN_SECRET_BYTES} bytes; a random one: openssl rand -hex 32")
    return Key(kid, "HS256", secret)


def _public(kid: str | None, key: object) -> Key:
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS or key.public_numbers().e > MAX_RSA_EXPONENT:
            raise KeyRefusedError(f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, and a small exponent")
        return Key(kid, "RS256", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return Key(kid, "ES256", key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Key(kid, "EdDSA", key)
    raise KeyRefusedError("a public key is RSA, EC on the curve P-256, or Ed25519")
