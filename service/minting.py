"""Tokens made and shown on the command line: ``sse-kit token mint`` for tests, ``sse-kit token show`` to see what one grants.

A service that signs tokens for its users does so with a library of its own; what they say is in docs/authorization.md.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import click

from .grants import NOTHING, STARTS, GrantError, describe, parse

DEFAULT_SECONDS = 3600


@click.group()
def token() -> None:
    """Make a token for tests, or see what one grants."""


@token.command()
@click.argument("subject")
@click.option("--subscribe", multiple=True, metavar="PATTERN", help="A topic that it may listen to; repeatable.")
@click.option("--publish", multiple=True, metavar="PATTERN", help="A topic that it may publish on; repeatable.")
@click.option("--start", multiple=True, type=click.Choice(STARTS), help="What it may start; repeatable.")
@click.option("--metrics", is_flag=True, help="It may read the counters, where they are closed.")
@click.option("--admin", is_flag=True, help="It may revoke.")
@click.option("--namespace", help="The namespace that the topics are of; without it, the default one.")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=DEFAULT_SECONDS, show_default=True, help="How long it lasts."
)
@click.option("--audience", default="sse-kit", show_default=True, help="Its aud.")
@click.option("--issuer", help="Its iss.")
@click.option("--kid", help="The name of the key.")
@click.option("--jti", help="Its id, to revoke it by.  [default: a random one]")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The private key in PEM, which decides the algorithm, or a secret.",
)
@click.option(
    "--key", envvar="SSE_KIT_SIGNING_KEY", show_envvar=True, help="The same as a text; better set the variable."
)
def mint(subject: str, key_file: Path | None, key: str | None, **options: Any) -> None:
    """Sign a JSON Web Token for SUBJECT and print it."""
    import jwt

    if (key_file is None) == (not key):
        raise click.UsageError("say what to sign with: --key-file, or SSE_KIT_SIGNING_KEY")
    text = key_file.read_bytes() if key_file is not None else (key or "").encode()
    claim = _claim(options)
    try:
        parse(claim)
    except GrantError as error:
        raise click.UsageError(str(error)) from None
    now = int(time.time())
    claims = {
        "sub": subject,
        "aud": options["audience"],
        "iat": now,
        "exp": now + options["seconds"],
        "jti": options["jti"] or secrets.token_urlsafe(12),
        "sse": claim,
    }
    if options["issuer"]:
        claims["iss"] = options["issuer"]
    algorithm, material = _signing_key(text)
    headers = {"kid": options["kid"]} if options["kid"] else {}
    click.echo(jwt.encode(claims, material, algorithm, headers=headers))


@token.command()
@click.argument("text", metavar="TOKEN")
def show(text: str) -> None:
    """Print what a token says and grants, as JSON. It is not checked: only the service knows the keys. - reads it from
    standard input, where no command line has it."""
    from .webtokens import TokenError, peek

    if text == "-":
        text = sys.stdin.readline().strip()
    try:
        header, claims = peek(text)
        grants = describe(parse(claims["sse"]) if "sse" in claims else NOTHING)
    except (TokenError, GrantError) as error:
        raise click.ClickException(str(error)) from None
    seconds = claims["exp"] - time.time() if isinstance(claims.get("exp"), int | float) else None
    shown = {
        "header": header,
        "claims": {name: value for name, value in claims.items() if name != "sse"},
        "seconds_left": None if seconds is None else round(seconds),
        "grants": grants,
    }
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


def _claim(options: dict[str, Any]) -> dict[str, Any]:
    topics = {name: list(options[name]) for name in ("subscribe", "publish") if options[name]}
    rights: dict[str, Any] = {name: True for name in ("metrics", "admin") if options[name]}
    if options["start"]:
        rights["start"] = list(options["start"])
    return {**rights, **({"namespaces": {options["namespace"]: topics}} if options["namespace"] else topics)}


def _signing_key(text: bytes) -> tuple[str, Any]:
    """The algorithm and the key to sign with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from .keys import KeyRefusedError, from_text

    if b"-----BEGIN" not in text:
        try:
            found = from_text(None, text.decode(errors="replace").strip())
        except KeyRefusedError as error:
            raise click.UsageError(str(error)) from None
        return found.algorithm, found.material
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError):
        raise click.UsageError("a private key in PEM without a password is expected, or a secret") from None
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256", key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA", key
    raise click.UsageError("a private key is RSA, EC on the curve P-256, or Ed25519")
