"""Who may ask: the one place where a request becomes an identity, before anything is started for it.

`Gate` asks an `Authenticator` for every request but those to `OPEN_ROUTES`, and refuses who is nobody. What an identity may
do is asked by the resources, with the `check_` functions: each route has its rule, and docs/authorization.md lists them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any, NoReturn, Protocol

import falcon

from .credentials import unauthenticated
from .grants import Identity
from .problems import LIMIT_RETRY_SECONDS, Problem
from .revocations import Revocations
from .topics import DOCTOR_PREFIX, RUN_PREFIX

#: Routes that nobody has to be known for, as the templates that Falcon matched: all others are closed, new ones too.
OPEN_ROUTES = frozenset({"/", "/static/{path:path}", "/openapi.json", "/healthz", "/readyz", "/metrics", "/session"})
#: Of these, the one that a setting can close.
METRICS_ROUTE = "/metrics"

# Names that cannot be guessed: who was told one may listen.
SECRET_NAMES = (RUN_PREFIX, DOCTOR_PREFIX)

EVENT_STREAM = "text/event-stream"


class Authenticator(Protocol):
    """Tells who sends a request."""

    def authenticate(self, req: falcon.Request) -> Identity | None:
        """Return the identity, or None for a request that does not say. Called by several threads at a time.

        Raises a `Problem` for a request that says so in a way that is malformed (400), wrong (401) or not allowed (403), and
        503 if it cannot be told now.
        """


class Gate:
    """Falcon middleware: lets a request pass to its resource when ``authenticator`` knows who sends it.

    ``retry``: the range, in milliseconds, of the delay told to streams while it cannot be told who they are for.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        revocations: Revocations,
        *,
        retry: tuple[int, int],
        closed: Collection[str] = (),
    ) -> None:
        self._authenticator = authenticator
        self._revocations = revocations
        self._retry = retry
        self._open_routes = OPEN_ROUTES.difference(closed)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, object]
    ) -> None:
        """Refuse, or note the identity for `identity_of`."""
        # OPTIONS only tells the methods of a route, and a browser sends no credentials with a preflight.
        if req.uri_template in self._open_routes or req.method == "OPTIONS":
            return
        try:
            identity = self._authenticator.authenticate(req)
        except Problem as problem:
            if problem.status_code != 503:
                raise
            self._refuse_for_now(req, problem)
        if identity is None:
            raise unauthenticated("Send Authorization: Bearer TOKEN, or sign in with POST /session.")
        if not self._revocations.are_known():
            # Closed rather than open: a worker that cannot know who was shut out lets nobody in.
            detail = "Whether the token is revoked cannot be told now: what joins this service's processes is away."
            self._refuse_for_now(req, Problem(503, "backplane-away", detail, retry_after=LIMIT_RETRY_SECONDS))
        if self._revocations.refuse(identity):
            raise unauthenticated("The token was revoked.", error="invalid_token")
        req.context.identity = identity
        req.context.revocations = self._revocations
        if req.uri_template == METRICS_ROUTE and not identity.grants.may_read_metrics:
            raise forbidden("metrics", "The token does not grant metrics.")

    def _refuse_for_now(self, req: falcon.Request, problem: Problem) -> NoReturn:
        """Answer that it cannot be told now: softly to an `EventSource`, which any status but 200 would end for good."""
        if req.method != "GET" or EVENT_STREAM not in (req.get_header("Accept") or ""):
            raise problem
        headers = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"}
        raise falcon.HTTPStatus(200, headers=headers, text=f"retry: {random.randint(*self._retry)}\n\n")


def identity_of(req: falcon.Request) -> Identity | None:
    """Return who sends the request; None where nobody needs to say."""
    return getattr(req.context, "identity", None)


def subject_of(req: falcon.Request) -> str | None:
    """Return the subject of who sends the request; None where nobody needs to say."""
    identity = identity_of(req)
    return None if identity is None else identity.subject


def admission_of(req: falcon.Request, topics: Sequence[str]) -> dict[str, Any]:
    """Return what `Hub.subscribe` has to know of whoever a stream is for."""
    identity = identity_of(req)
    if identity is None:
        return {}
    revocations: Revocations = req.context.revocations
    names = tuple(topics)
    return {
        "subject": identity.subject,
        "expires": identity.expires,
        "credential": identity.token_id,
        # Once more, when the stream begins: the word may come between now and then.
        "admit": lambda: not (revocations.refuse(identity) or revocations.refuse_topics(names)),
    }


def check_subscribe(req: falcon.Request, namespace: str, topics: Sequence[str]) -> None:
    """Raise 403 if one of the topics may not be subscribed to. Of `SECRET_NAMES` any may."""
    identity = identity_of(req)
    if identity is None:
        return
    for topic in topics:
        if not topic.startswith(SECRET_NAMES) and not identity.grants.may_subscribe(namespace, topic):
            raise forbidden("subscribe", f"The token does not grant to subscribe to {_place(namespace, topic)}.", topic)
    revocations: Revocations = req.context.revocations
    if found := revocations.refuse_topics(topics):
        raise Problem(403, "revoked", f"The topic {found!r} is closed for now.", topic=found)


def may_subscribe(req: falcon.Request, namespace: str, topic: str) -> bool:
    """Whether the topic may be subscribed to, as far as grants go."""
    identity = identity_of(req)
    return identity is None or identity.grants.may_subscribe(namespace, topic)


def check_publish(req: falcon.Request, namespace: str, topic: str, *, line: int | None = None) -> None:
    """Raise 403 if events may not be published on the topic. ``line``: of an ndjson body."""
    identity = identity_of(req)
    if identity is not None and not identity.grants.may_publish(namespace, topic):
        detail = f"The token does not grant to publish on {_place(namespace, topic)}."
        raise forbidden("publish", detail, topic, line=line)


def check_start(req: falcon.Request, what: str) -> None:
    """Raise 403 if what is one of `grants.STARTS` may not be started."""
    identity = identity_of(req)
    if identity is not None and not identity.grants.may_start(what):
        raise forbidden("start", f"The token does not grant to start {what!r}.")


def check_stop(req: falcon.Request) -> None:
    """Raise 403 if runs may not be stopped."""
    identity = identity_of(req)
    if identity is not None and not identity.grants.may_stop:
        raise forbidden("start", "The token does not grant to start anything, and so not to stop it.")


def check_admin(req: falcon.Request) -> None:
    """Raise 403 if nothing may be revoked."""
    identity = identity_of(req)
    if identity is None:
        raise Problem(
            403, "forbidden", "Where nobody says who they are nobody can be shut out: configure tokens.", grant="admin"
        )
    if not identity.grants.may_administer:
        raise forbidden("admin", "The token does not grant admin.")


def forbidden(grant: str, detail: str, topic: str | None = None, *, line: int | None = None) -> Problem:
    """Return the problem of a request whose sender is known, and has not that grant (RFC 6750, section 3.1)."""
    headers = {"WWW-Authenticate": 'Bearer realm="sse-kit", error="insufficient_scope"'}
    return Problem(403, "forbidden", detail, grant=grant, topic=topic, line=line, headers=headers)


def _place(namespace: str, topic: str) -> str:
    return f"{topic[:200]!r} in the namespace {namespace!r}"
