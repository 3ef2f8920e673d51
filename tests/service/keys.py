"""Keys to sign tokens with, and tokens, for tests. Made once: an RSA key takes its time."""

from __future__ import annotations

import base64
import functools
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import get_default_algorithms

SECRET = "0123456789abcdef0123456789abcdef"


@functools.cache
def private(algorithm: str) -> Any:
    """The private key that tests sign with, of an algorithm."""
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public(key: Any) -> str:
    """A private key's public part in PEM."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def private_text(key: Any) -> str:
    """A private key in PEM."""
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    """The public part of a private key as a JSON Web Key."""
    made: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(key.public_key()))
    return {**made, **members}


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a token that is good for an hour; None takes one out."""
    made = {"sub": "ann", "aud": "sse-kit", "exp": int(time.time()) + 3600, **changed}
    return {name: value for name, value in made.items() if value is not None}


def token(kid: str | None = "k", *, key: Any = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    """A token signed by PyJWT."""
    return jwt.encode(claims(**changed), key, algorithm, headers={} if kid is None else {"kid": kid})


def signed(header: str, payload: str, secret: str = SECRET) -> str:
    """A token of two texts as they are, signed by HMAC: what no library would make."""
    parts = b".".join(base64.urlsafe_b64encode(each.encode()).rstrip(b"=") for each in (header, payload))
    made = get_default_algorithms()["HS256"].sign(parts, secret.encode())
    return (parts + b"." + base64.urlsafe_b64encode(made).rstrip(b"=")).decode()
