"""``/session``: a token becomes a cookie, for browsers, whose `EventSource` cannot send a token."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import falcon
import msgspec

from ..bodies import read_body
from ..credentials import (
    COOKIE,
    MAX_COOKIE_BYTES,
    SECURE_COOKIE,
    TokenAuthenticator,
    is_secure,
    session_of,
    unauthenticated,
)
from ..problems import Problem
from ..sessions import Tokens

JSON = "application/json"


class Credentials(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /session``."""

    token: str


_decode = msgspec.json.Decoder(Credentials).decode


class SessionResource:
    """Who is signed in here, and how to sign in and out.

    Open to everybody. What changes something must not come from a page of a foreign origin, or such a page could sign
    its visitors out, or in as somebody else.
    """

    def __init__(self, tokens: Tokens, authenticator: TokenAuthenticator, *, max_body_bytes: int) -> None:
        self._tokens = tokens
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer who the request's token or cookie makes it, null for nobody, and whether one has to be somebody."""
        try:
            identity = self._authenticator.authenticate(req)
        except Problem as problem:
            # A session that is over is an answer to this question and no error.
            if problem.status_code != 401:
                raise
            identity = None
        subject = None if identity is None else identity.subject
        resp.data = msgspec.json.encode({"required": bool(self._authenticator), "subject": subject})
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Open a session for the token in the body and set its cookie. 401 for a token that nobody has."""
        # JSON from a foreign page needs a preflight, which a plain form does without.
        if (req.content_type or "").partition(";")[0].strip().lower() != JSON:
            raise falcon.HTTPUnsupportedMediaType(description=f"Send {JSON}.")
        self._authenticator.check_origin(req, must_tell=False)
        token = self._token(req)
        if not self._authenticator:
            raise unauthenticated("This server asks nobody for a token.", error="invalid_token")
        identity = self._authenticator.identify(token)
        if identity.expires is None:
            value, seconds = self._tokens.open(identity.subject), self._tokens.seconds
        else:
            # A JSON Web Token is a session already: nobody can change it, and it has an end.
            value, seconds = token, max(1, int(identity.expires - time.time()))
            if len(value) > MAX_COOKIE_BYTES:
                detail = f"The token has {len(value)} bytes; a browser keeps a cookie of at most {MAX_COOKIE_BYTES} for sure."
                raise Problem(413, "too-large", detail, field="token")
        _set_cookie(req, resp, value, max_age=seconds)
        resp.data = msgspec.json.encode({"subject": identity.subject, "seconds": seconds})
        resp.set_header("Cache-Control", "no-store")

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take the cookie away; 204, also for who has none."""
        self._authenticator.check_origin(req, must_tell=session_of(req) is not None)
        # Falcon leaves out a Max-Age of 0.
        _set_cookie(req, resp, "", expires=datetime.fromtimestamp(0, UTC))
        resp.status = falcon.HTTP_204
        resp.set_header("Cache-Control", "no-store")

    def _token(self, req: falcon.Request) -> str:
        try:
            return _decode(read_body(req, self._max_body_bytes)).token
        except msgspec.ValidationError as error:
            raise falcon.HTTPUnprocessableEntity(description=f'Send {{"token": "..."}}: {error}') from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "invalid-json", str(error)) from None


def _set_cookie(req: falcon.Request, resp: falcon.Response, value: str, **until: Any) -> None:
    secure = is_secure(req)
    name = SECURE_COOKIE if secure else COOKIE
    # What sets it and what takes it away must agree in all of this, or the browser keeps the old one.
    resp.set_cookie(name, value, path="/", secure=secure, http_only=True, same_site="Strict", **until)
