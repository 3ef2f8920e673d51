"""What is known of whoever a stream is for: who it is, with what it was let in, and for how long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from sse_core.errors import ConfigurationError
from sse_core.telemetry import check_request_id


class Admission(NamedTuple):
    """``expires`` is in seconds since 1970. ``admit`` is asked at the moment from which on the stream can be evicted."""

    subject: str | None = None
    expires: float | None = None
    credential: str | None = None
    admit: Callable[[], bool] | None = None
    #: Told again with the stream's end.
    request_id: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is something to find the stream by."""
        return self.subject is not None or self.credential is not None

    def check(self) -> None:
        """Raise `ConfigurationError` for what is no admission."""
        for name, value in (("subject", self.subject), ("credential", self.credential)):
            if value is not None:
                _check_text(name, value)
        if self.request_id is not None:
            check_request_id(self.request_id)
        if self.expires is not None and not math.isfinite(self.expires):
            raise ConfigurationError("expires: must be a finite number of seconds since 1970")

    def milliseconds_left(self) -> int:
        """How long the stream may last: 0 for ever. One that may not even begin has a millisecond, to be told so."""
        if self.admit is not None and not self.admit():
            return 1
        # The engine's bound is far below the second number.
        return 0 if self.expires is None else max(1, math.ceil(1000 * min(self.expires - time.time(), 1e12)))


#: Nobody in particular, for ever.
ANYBODY = Admission()


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: must be str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{name}: must be valid Unicode, without lone surrogates") from error
