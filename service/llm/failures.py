"""What can go wrong with a provider, and what is said about it to whom.

Whoever asked learns enough to know whether to try again. What the provider itself wrote goes to our log only: it may name
keys, organizations and addresses that are no business of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sse_core import FailedError

REFUSED_CREDENTIALS = (401, 403)
RATE_LIMITED = 429
OVERLOADED = (503, 529)  # 529 is Anthropic's own.
# Those after which the same request may be answered: a conflict of locks, and a request that came too slowly.
REPEATABLE = (408, 409, RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class Failure:
    """One way to fail. ``reason`` is for programs, ``message`` for people; ``status`` is the provider's, if it gave one.

    ``repeatable``: the same request may succeed, as long as nothing has come of the answer; after ``retry_after``
    seconds, where the provider said so.
    """

    reason: str
    message: str
    status: int | None = None
    retry_after: float | None = None
    repeatable: bool = False

    def error(self) -> FailedError:
        """The same as the event ``failed`` that ends the run."""
        members = {"status": self.status, "retry_after": self.retry_after}
        known = {name: member for name, member in members.items() if member is not None}
        return FailedError(self.message, reason=self.reason, **known)


TIMEOUT = Failure("timeout", "The provider has sent nothing for too long.")
TOO_LONG = Failure("timeout", "The answer has taken longer than this server waits for one.")
UNREACHABLE = Failure("upstream", "The provider cannot be reached.", repeatable=True)
DROPPED = Failure("upstream", "The provider's answer broke off before its end.")
MALFORMED = Failure("upstream", "The provider has sent something that is no answer.")
TOO_LARGE = Failure("upstream", "The provider has sent more than this server takes for one answer.")
REPORTED = Failure("upstream", "The provider has reported an error in the middle of its answer.")
LIMITED = Failure("rate-limited", "The provider takes no more requests of this server for now; try again later.")
OVERBURDENED = Failure("overloaded", "The provider is overloaded; try again later.")


def of_status(status: int, headers: Mapping[str, str]) -> Failure:
    """Return the failure that an HTTP status is. ``headers`` are the response's, whose keys ignore case."""
    retry_after = _seconds(headers.get("retry-after"))
    # Said by both vendors where the status alone would mislead: a quota that is used up is a 429 too.
    told = headers.get("x-should-retry")
    repeatable = told != "false" and (status in REPEATABLE or status >= 500 or told == "true")
    reason, message = _of_class(status)
    return Failure(reason, message, status, retry_after, repeatable)


def _of_class(status: int) -> tuple[str, str]:
    if status in REFUSED_CREDENTIALS:
        return "credentials", "The provider refused the credentials of this server."
    if status == RATE_LIMITED:
        return LIMITED.reason, LIMITED.message
    if status in OVERLOADED:
        return OVERBURDENED.reason, OVERBURDENED.message
    if 400 <= status < 500:
        return "refused", f"The provider refused the request (status {status})."
    return "upstream", f"The provider failed to answer (status {status})."


def _seconds(text: str | None) -> float | None:
    """Return what Retry-After says in seconds; its other form, a date, depends on two clocks and is left out."""
    try:
        seconds = float(text) if text else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
