"""``/revocations``: who is shut out. ``POST`` shuts out a token, a subject or all who listen to topics, everywhere, at once."""

from __future__ import annotations

import time

import falcon
import msgspec

from sse_core import BackplaneError, BusyError, LimitError

from ..auth import check_admin
from ..bodies import read_body
from ..grants import GrantError, Patterns
from ..problems import LIMIT_RETRY_SECONDS, Problem, backplane_problem
from ..revocations import KINDS, MAX_VALUE_CHARACTERS, Entry, Kind, Revocations
from ..topics import REVOCATION_SECONDS

JSON = "application/json"
DEFAULT_SECONDS = 86_400
MOST_ENTRIES = 1000


class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /revocations``: exactly one of the first three."""

    jti: str | None = None
    subject: str | None = None
    topic: str | None = None
    seconds: int = DEFAULT_SECONDS


_decode_body = msgspec.json.Decoder(Revocation).decode


class RevocationsResource:
    """Needs the grant ``admin``."""

    def __init__(self, revocations: Revocations, *, max_body_bytes: int) -> None:
        self._revocations = revocations
        self._max_body_bytes = max_body_bytes

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List what has not ended, the first thousand."""
        check_admin(req)
        entries = self._revocations.entries()
        listed = [{entry.kind: entry.value, "until": entry.until} for entry in entries[:MOST_ENTRIES]]
        resp.data = msgspec.json.encode({"total": len(entries), "revocations": listed})
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Add one entry. Open streams end, in all processes; new ones are refused until the entry ends."""
        check_admin(req)
        if (req.content_type or "").partition(";")[0].strip().lower() != JSON:
            # Also what keeps a foreign page from it by a plain form: those types need no preflight.
            raise falcon.HTTPUnsupportedMediaType(description=f"Send {JSON}.")
        entry = _entry(read_body(req, self._max_body_bytes))
        try:
            self._revocations.add(entry)
        except BackplaneError as error:
            raise backplane_problem(error, "Whether it is revoked is unknown; ask again.") from None
        except (LimitError, BusyError) as error:
            detail = f"{error}: nothing was revoked"
            limit, value = (error.limit, error.value) if isinstance(error, LimitError) else (None, None)
            raise Problem(
                503, "limit-reached", detail, limit=limit, value=value, retry_after=LIMIT_RETRY_SECONDS
            ) from None
        resp.data = msgspec.json.encode({entry.kind: entry.value, "until": entry.until})
        resp.set_header("Cache-Control", "no-store")


def _entry(body: bytes) -> Entry:
    try:
        asked = _decode_body(body)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid-json", str(error)) from None
    named: list[tuple[Kind, str]] = [(kind, value) for kind in KINDS if (value := getattr(asked, kind)) is not None]
    if len(named) != 1:
        raise _wrong(f"Say exactly one of {', '.join(KINDS)}.")
    kind, value = named[0]
    if not 0 < len(value) <= MAX_VALUE_CHARACTERS or not value.isprintable():
        raise _wrong(f"It has 1 to {MAX_VALUE_CHARACTERS} printable characters.", field=kind)
    if not 0 < asked.seconds <= REVOCATION_SECONDS:
        raise _wrong(f"It lasts 1 to {REVOCATION_SECONDS} seconds.", field="seconds")
    if kind == "topic":
        try:
            Patterns([value])
        except GrantError as error:
            raise _wrong(str(error), field=kind) from None
    return Entry(kind, value, int(time.time()) + asked.seconds)


def _wrong(detail: str, *, field: str | None = None) -> Problem:
    return Problem(422, "unknown-revocation", detail, field=field)
