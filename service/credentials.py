"""How a request says who sends it: a bearer token, a cookie, or, where that is switched on, a parameter.

`TokenAuthenticator` is the one `auth.Authenticator` that there is. It knows tokens of the settings, sessions that these have
opened, for browsers, whose `EventSource` cannot set headers, and JSON Web Tokens, wherever they come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

import falcon

from .grants import EVERYTHING, Grants, Identity
from .keys import KeysAwayError
from .origins import serialize
from .problems import Problem
from .sessions import TOKEN, Tokens
from .webtokens import TOKEN as WEB_TOKEN
from .webtokens import TokenError, WebTokens

REALM = "sse-kit"
# The prefix makes browsers refuse the cookie unless it is Secure, of exactly this host, and for all of its paths: no
# neighbour in the domain can set one. It needs https.
COOKIE = "sse-kit"
SECURE_COOKIE = "__Host-sse-kit"
# What browsers keep, less the name and the attributes (RFC 6265, section 6.1).
MAX_COOKIE_BYTES = 3800
#: The parameter of RFC 6750, section 2.3.
PARAMETER = "access_token"

SAFE_METHODS = frozenset({"GET", "HEAD"})

# RFC 9110, section 11.4: a scheme, and after at least one space what belongs to it.
_AUTHORIZATION = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?")
_FROM_QUERY = "sse_kit.query_tokens"


class QueryTokenRequest(falcon.Request):
    """A request whose token, if it is in the query, is taken out before anybody sees the query.

    So it is in no log and no message of ours, and a run is found again by who comes back with a newer token.
    """

    def __init__(self, env: dict[str, object], options: falcon.RequestOptions | None = None) -> None:
        query = str(env.get("QUERY_STRING", ""))
        if PARAMETER in query:
            parts = [part.partition("=") for part in query.split("&")]
            # By its name as it is: one that is written otherwise nginx could not keep out of its log either.
            env[_FROM_QUERY] = [unquote_plus(value) for name, _, value in parts if name == PARAMETER]
            kept = ["".join(part) for part in parts if part[0] != PARAMETER]
            env["QUERY_STRING"] = "&".join(kept)
            # gunicorn's own copies of the address.
            for name in ("RAW_URI", "REQUEST_URI"):
                if name in env:
                    env[name] = str(env[name]).partition("?")[0]
        super().__init__(env, options)


class TokenAuthenticator:
    """Knows requests by a token or by a cookie. The token wins: it was sent on purpose.

    A cookie is sent by the browser whoever made it ask. So with one, a request that changes something must come from a
    page of our own origin or of ``origins``, and any other that names its origin must name one of those.
    ``grants`` are those of subjects with a token of the settings; who is not in there has all rights.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        origins: frozenset[str] = frozenset(),
        grants: Mapping[str, Grants] | None = None,
        web_tokens: WebTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._origins = origins
        self._grants = grants or {}
        self._web_tokens = web_tokens

    def __bool__(self) -> bool:
        return bool(self._tokens) or self._web_tokens is not None

    def authenticate(self, req: falcon.Request) -> Identity | None:
        """Return the identity. A wrong token or cookie is 401 and never ignored, whatever else the request has."""
        token = bearer_token(req)
        from_query: list[str] = req.env.get(_FROM_QUERY, [])
        if len(from_query) + (token is not None) > 1:
            # RFC 6750, section 2: at most one, or two readers of the same request could see two senders.
            raise _malformed("Send one token, and in one place.")
        if token is not None:
            return self.identify(token)
        session = session_of(req)
        if session is not None:
            identity = self._identify_session(session)
            self.check_origin(req, must_tell=req.method not in SAFE_METHODS)
            return identity
        return self.identify(from_query[0]) if from_query else None

    def identify(self, token: str) -> Identity:
        """Return whose token it is. Raises 401, and 503 if the keys to tell that by cannot be had."""
        subject = self._tokens.subject(token)
        if subject is not None:
            return Identity(subject, self._grants.get(subject, EVERYTHING))
        if self._web_tokens is None or not WEB_TOKEN.fullmatch(token):
            raise unauthenticated("The token is not known here.", error="invalid_token")
        try:
            return self._web_tokens.verify(token)
        except TokenError as error:
            raise unauthenticated(str(error), error="invalid_token") from None
        except KeysAwayError as error:
            detail = "The keys that tokens are checked with cannot be had now."
            raise Problem(503, "keys-away", detail, retry_after=error.retry_after) from None

    def _identify_session(self, session: str) -> Identity:
        subject = self._tokens.check(session)
        if subject is not None:
            return Identity(
                subject, self._grants.get(subject, EVERYTHING), expires=float(self._tokens.ends_at(session))
            )
        if self._web_tokens is not None and WEB_TOKEN.fullmatch(session):
            return self.identify(session)
        raise unauthenticated(
            "The session is over, or was never valid: sign in with POST /session.", error="invalid_token"
        )

    def check_origin(self, req: falcon.Request, *, must_tell: bool) -> None:
        """Raise a `Problem`, 403, for a request from a page of a foreign origin; with ``must_tell`` also from none."""
        origin = req.get_header("Origin")
        if origin is None:
            if must_tell:
                raise Problem(403, "foreign-origin", "A request with a cookie that changes something names its Origin.")
        elif origin not in self._origins and origin != serialize(f"{req.scheme}://{req.netloc}"):
            raise Problem(403, "foreign-origin", f"Pages of {origin[:200]!r} may not act for who is signed in here.")


def bearer_token(req: falcon.Request) -> str | None:
    """Return the token of the Authorization header; None without one, and for another scheme, which is not ours to judge.

    Raises a `Problem`, 400, for a header that is malformed.
    """
    header = req.get_header("Authorization")
    if header is None:
        return None
    match = _AUTHORIZATION.fullmatch(header.strip())
    if match is None:
        raise _malformed("The header is: Authorization: Bearer TOKEN")
    if match[1].lower() != "bearer":
        return None
    token = match[2] or ""
    if not TOKEN.fullmatch(token):
        raise _malformed("After Bearer stands one token, of letters, digits and - . _ ~ + / with = at its end.")
    return token


def is_secure(req: falcon.Request) -> bool:
    """Whether the client speaks https, with us or with a proxy that gunicorn believes."""
    return req.scheme == "https"


def session_of(req: falcon.Request) -> str | None:
    """Return the session in the request's cookie, unchecked; None for none. Raises 400 for two of the same name."""
    values = req.get_cookie_values(SECURE_COOKIE if is_secure(req) else COOKIE)
    if values and len(set(values)) > 1:
        raise _malformed("The cookie is there twice, with two values.")
    return values[0] if values else None


def unauthenticated(detail: str, *, error: str | None = None) -> Problem:
    """Return the problem of a request whose sender is not known. ``error`` is a code of RFC 6750, section 3.1.

    None for a request that did not try: it is only told how.
    """
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": _challenge(error)})


def _malformed(detail: str) -> Problem:
    headers = {"WWW-Authenticate": _challenge("invalid_request")}
    return Problem(400, "malformed-authorization", detail, headers=headers)


def _challenge(error: str | None) -> str:
    return f'Bearer realm="{REALM}"' + (f', error="{error}"' if error else "")
