"""The settings of who may ask, made into what checks it: keys, tokens, grants. Whoever forgot to say is told at the start."""

from __future__ import annotations

from sse_core import ConfigurationError

from .credentials import TokenAuthenticator
from .grants import Grants, parse
from .jwks import FileKeys, UrlKeys
from .keys import Key, KeyRefusedError, Keys, KeysAwayError, KeySet, from_text
from .origins import is_loopback
from .sessions import Tokens
from .settings import Settings
from .webtokens import WebTokens


class AnonymousError(ValueError):
    """Everybody who can reach the address could do everything, and nobody has said that this is meant."""


class SeveralKeys:
    """Keys of several places, in their order."""

    def __init__(self, places: list[Keys]) -> None:
        self._places = places

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """See `Keys.find`. A place that is away is told only if no other has the key."""
        away: KeysAwayError | None = None
        for place in self._places:
            try:
                key = place.find(kid, algorithm)
            except KeysAwayError as error:
                away = error
                continue
            if key is not None:
                return key
        if away is not None:
            raise away
        return None


def create_tokens(settings: Settings) -> Tokens:
    """Return the tokens of the settings."""
    tokens = {subject: token.get_secret_value() for subject, token in settings.tokens.items()}
    return Tokens(tokens, seconds=settings.session_seconds)


def create_authenticator(settings: Settings, tokens: Tokens) -> TokenAuthenticator:
    """Return what checks the credentials of requests; it is false if nobody is asked for any.

    Raises `ConfigurationError` for keys that cannot be used.
    """
    grants: dict[str, Grants] = {subject: parse(value) for subject, value in settings.grants.items()}
    return TokenAuthenticator(
        tokens, origins=frozenset(settings.cors_origins), grants=grants, web_tokens=_web_tokens(settings)
    )


def _web_tokens(settings: Settings) -> WebTokens | None:
    if not settings.takes_web_tokens:
        return None
    try:
        places: list[Keys] = []
        if settings.jwt_keys:
            places.append(KeySet([from_text(kid, key.get_secret_value()) for kid, key in settings.jwt_keys.items()]))
        if settings.jwt_key_file is not None:
            places.append(FileKeys(settings.jwt_key_file))
        if settings.jwks_url:
            places.append(
                UrlKeys(
                    settings.jwks_url,
                    fresh_seconds=settings.jwks_seconds,
                    least_seconds=settings.jwks_least_seconds,
                    most_seconds=settings.jwks_most_seconds,
                    timeout=settings.jwks_timeout,
                )
            )
    except (KeyRefusedError, OSError) as error:
        raise ConfigurationError(f"jwt_key_file: {error}") from None
    return WebTokens(
        SeveralKeys(places),
        algorithms=settings.jwt_algorithms,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway=settings.jwt_leeway,
        claim=settings.jwt_claim,
        max_bytes=settings.max_token_bytes,
    )


def check_bind(settings: Settings) -> None:
    """Raise `AnonymousError` if the address can be reached from elsewhere and nobody would be asked who they are."""
    if settings.anonymous or settings.tokens or settings.takes_web_tokens:
        return
    for address in settings.bind.split(","):
        if not _is_local(address.strip()):
            raise AnonymousError(
                f"{address.strip()} can be reached from elsewhere, and no token or key is set: whoever reaches it could "
                "publish and listen. Set SSE_KIT_TOKENS or SSE_KIT_JWT_KEYS (docs/authorization.md), bind to 127.0.0.1 or "
                "unix:PATH, or say that everybody may: SSE_KIT_ANONYMOUS=true"
            )


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0] if ":" in address.partition("]")[2] or "[" not in address else address
    return is_loopback(host.removeprefix("tcp://").strip("[]"))
