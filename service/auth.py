"""Who may ask: the one place where a request becomes a subject, before anything is started for it.

`Gate` asks an `Authenticator` for every request but those to `OPEN_ROUTES`, and refuses who is nobody. Of authenticators
there is one, `TokenAuthenticator`: a token of the settings as ``Authorization: Bearer`` (RFC 6750), or the cookie of a
session that such a token has opened, for browsers, whose `EventSource` cannot set headers.
"""

from __future__ import annotations

import re
from typing import Protocol

import falcon

from .origins import serialize
from .problems import Problem
from .sessions import TOKEN, Tokens

REALM = "sse-kit"
# The prefix makes browsers refuse the cookie unless it is Secure, of exactly this host, and for all of its paths: no
# neighbour in the domain can set one. It needs https.
COOKIE = "sse-kit"
SECURE_COOKIE = "__Host-sse-kit"

#: Routes that nobody has to be known for, as the templates that Falcon matched: all others are closed, new ones too.
OPEN_ROUTES = frozenset({"/", "/static/{path:path}", "/openapi.json", "/healthz", "/readyz", "/metrics", "/session"})

SAFE_METHODS = frozenset({"GET", "HEAD"})

# RFC 9110, section 11.4: a scheme, and after at least one space what belongs to it.
_AUTHORIZATION = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?")


class Authenticator(Protocol):
    """Tells who sends a request."""

    def authenticate(self, req: falcon.Request) -> str | None:
        """Return the subject, or None for a request that does not say. Called by several threads at a time.

        Raises a `Problem` for a request that says so in a way that is malformed (400), wrong (401) or not allowed (403).
        """


class Gate:
    """Falcon middleware: lets a request pass to its resource when ``authenticator`` knows who sends it."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, object]
    ) -> None:
        """Refuse, or note the subject for `subject_of`."""
        # OPTIONS only tells the methods of a route, and a browser sends no credentials with a preflight.
        if req.uri_template in OPEN_ROUTES or req.method == "OPTIONS":
            return
        subject = self._authenticator.authenticate(req)
        if subject is None:
            raise unauthenticated("Send Authorization: Bearer TOKEN, or sign in with POST /session.")
        req.context.subject = subject


def subject_of(req: falcon.Request) -> str | None:
    """Return who sends the request; None where nobody needs to say."""
    subject: str | None = req.context.get("subject")
    return subject


class TokenAuthenticator:
    """Knows requests by a bearer token or by a session's cookie. The token wins: it was sent on purpose.

    A cookie is sent by the browser whoever made it ask. So with one, a request that changes something must come from a
    page of our own origin or of ``origins``, and any other that names its origin must name one of those.
    """

    def __init__(self, tokens: Tokens, *, origins: frozenset[str] = frozenset()) -> None:
        self._tokens = tokens
        self._origins = origins

    def authenticate(self, req: falcon.Request) -> str | None:
        """Return the subject. A wrong token or cookie is 401 and never ignored, whatever else the request has."""
        token = bearer_token(req)
        if token is not None:
            subject = self._tokens.subject(token)
            if subject is None:
                raise unauthenticated("The token is not known here.", error="invalid_token")
            return subject
        session = session_of(req)
        if session is None:
            return None
        subject = self._tokens.check(session)
        if subject is None:
            raise unauthenticated(
                "The session is over, or was never valid: sign in with POST /session.", error="invalid_token"
            )
        self.check_origin(req, must_tell=req.method not in SAFE_METHODS)
        return subject

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
    """Return the session in the request's cookie, unchecked; None for none."""
    values = req.get_cookie_values(SECURE_COOKIE if is_secure(req) else COOKIE)
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
