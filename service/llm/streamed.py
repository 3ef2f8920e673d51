"""An answer that a vendor's library streams: what all providers that are reached through one have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Generic, Protocol, TypeVar

import httpx2

from . import Finish, failures
from .failures import Failure
from .upstream import Upstream

_Item = TypeVar("_Item")
_Read = TypeVar("_Read", contravariant=True)


class Progress(Protocol[_Read]):
    """What is known of an answer while it comes. A library does not check what it is sent: this does."""

    def read(self, item: _Read, /) -> list[str]:
        """Return the tokens of an item. Raises AttributeError or TypeError for one that is not of the format."""

    def finish(self) -> Finish | None:
        """Return how it ended; None if nothing has told that."""


class StreamedGeneration(Generic[_Item]):
    """One answer, see `sse_kit.llm.Generation`.

    ``open`` begins it on the HTTP client that it is given, and may be called again after a failure that may pass.
    ``failure_of`` tells what the library's own errors mean, None for those that it does not know.
    """

    def __init__(
        self,
        upstream: Upstream,
        open: Callable[[httpx2.Client], Iterable[_Item]],
        progress: Progress[_Item],
        failure_of: Callable[[Exception], Failure | None],
    ) -> None:
        self._upstream = upstream
        self._open = open
        self._progress = progress
        self._library_failure_of = failure_of

    def tokens(self) -> Generator[str, None, Finish]:
        """See `Generation`."""
        with self._upstream as http_client:
            items = self._upstream.open(lambda: self._open(http_client), self._failure_of)
            try:
                for item in items:
                    yield from self._read(item)
                finish = self._progress.finish()
                if finish is None:
                    # Also what a body without a length looks like when its connection breaks.
                    raise _IncompleteError("nothing has said why it ended")
                return finish
            except Exception as error:
                self._upstream.give_up(error, self._failure_of(error))

    def _read(self, item: _Item) -> list[str]:
        try:
            return self._progress.read(item)
        except (AttributeError, TypeError) as error:
            raise _MalformedError(str(error)) from None

    def _failure_of(self, error: Exception) -> Failure | None:
        failure = self._library_failure_of(error)
        if failure is not None:
            return failure
        match error:
            case _IncompleteError():
                return failures.DROPPED
            # Neither JSON nor UTF-8 are wrapped by the libraries.
            case _MalformedError() | ValueError():
                return failures.MALFORMED
        return None

    def abort(self) -> None:
        """See `Generation`."""
        self._upstream.abort()


class _MalformedError(Exception):
    """What came is not of the format."""


class _IncompleteError(Exception):
    """What came is no whole answer."""
