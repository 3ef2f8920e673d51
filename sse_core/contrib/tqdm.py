"""A progress bar of tqdm that is a stream as well, as ``tqdm.contrib`` has them for other services.

    from sse_core.contrib.tqdm import tqdm

    for row in tqdm(rows, hub=hub, topic="run/import-7"):
        ...

How the topic ends:

* With the loop: ``done`` once all is iterated; ``failed`` if the iterable raises. A loop that is left earlier is ``failed``,
  too, reason ``incomplete``: an exception in its body and a ``break`` look the same from here.
* With ``with tqdm(...) as bar``: ``failed`` if the block raises, else ``done``, however far it came.
* With ``bar.close()``, which ``async for`` calls, too: ``done``, but ``failed`` (``incomplete``) short of a known total.
* With ``bar.finish(**members)``: ``done``, with these members in its data.
* With ``Hub.stop``: ``done``, reason ``stopped``, and the bar's next step raises `StoppedError`.

What tells of the work never breaks the work: while the backplane is away nothing is told, and the log says so.
"""

from __future__ import annotations

import io
import logging
import math
import operator
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm as tqdm_auto

from sse_core import Event, SSEError, StoppedError

if TYPE_CHECKING:
    from sse_core import Hub, Progress

__all__ = ["tqdm", "trange"]

_log = logging.getLogger("sse_core.contrib.tqdm")


class tqdm(tqdm_auto):  # type: ignore[misc] # tqdm ships no types, so its class is Any to mypy
    """``tqdm.auto.tqdm`` that publishes its state into a topic of its own, with `Hub.progress`.

    ``topic`` must be finite and new (``run/...``); without one it is a name that nobody can guess. ``interval`` is the least
    time between two events in seconds, whatever ``mininterval`` is; ``abandon_after`` is that of `Hub.progress`. All other
    arguments are tqdm's. With ``disable=True`` nothing is shown and nothing published, and no hub is needed.
    ``disable=None`` hides a bar that has no terminal, and publishes all the same: that is the one for a server.

    Raises what `Hub.progress` does, and TypeError without a hub. Use it as any bar of tqdm, from one thread.
    """

    n: float

    def __init__(
        self,
        *args: Any,
        hub: Hub | None = None,
        topic: str | None = None,
        interval: float = 0.1,
        abandon_after: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._progress: Progress | None = None
        self._topic: str | None = None
        self._in_block = False
        self._looping = False
        self._interval = interval
        self._described = ""
        if "disable" in kwargs and kwargs["disable"] is None:
            kwargs["disable"] = False
            if not (kwargs.get("file") or sys.stderr).isatty():
                kwargs["file"] = _Nowhere()
        super().__init__(*args, **kwargs)
        if self.disable:
            return
        try:
            if hub is None:
                raise TypeError("a bar that is not disabled needs a hub")
            self._progress = hub.progress(
                topic, _plain(self.total), unit=self.unit, interval=interval, abandon_after=abandon_after
            )
        except BaseException:
            super().close()
            raise
        self._topic = self._progress.topic
        self._tell()

    @property
    def topic(self) -> str | None:
        """What to subscribe to; None if the bar is disabled."""
        return self._topic

    # ---- steps ----

    def __iter__(self) -> Iterator[Any]:
        """Iterate, and count. See the module for how this ends the topic."""
        if self.disable:
            yield from self.iterable
            return
        # Not tqdm's own loop: that one looks at the clock as rarely as its display allows, and ends without saying how.
        every = min(self.mininterval, self._interval)
        due = 0.0
        n = self.n
        error: BaseException | None = None
        complete = False
        self._looping = True
        try:
            for item in self.iterable:
                yield item
                n += 1
                now = time.monotonic()
                if now >= due:
                    due = now + every
                    self.update(n - self.n)
            complete = True
        except GeneratorExit:
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._looping = False
            self.n = n
            super().close()
            if not self._in_block:
                self._end(error, complete=complete)

    def update(self, n: float = 1) -> bool | None:
        """Count so many more, as tqdm does. Raises `StoppedError` once somebody has stopped it."""
        shown: bool | None = super().update(n)
        if not shown:
            self._tell()
        return shown

    def refresh(self, nolock: bool = False, lock_args: tuple[Any, ...] | None = None) -> bool | None:
        """Show the state, as tqdm does, and tell it. Raises `StoppedError` once somebody has stopped it."""
        shown: bool | None = super().refresh(nolock=nolock, lock_args=lock_args)
        # Whoever comes with the lock is tqdm's monitor, which nobody's exception may reach; and all bars would wait.
        if not nolock:
            self._tell()
        return shown

    def _tell(self) -> None:
        progress = self._progress
        if progress is None:
            return
        try:
            text = self._text()
            if text != self._described:
                self._described = text
                progress.describe(text or None)
            progress.set(_plain(self.n) or 0, total=_plain(self.total))
        except StoppedError:
            raise
        except SSEError as error:
            _log.warning("The progress of %s is not told: %s", self._topic, error)

    def _text(self) -> str:
        """What stands beside the bar: its description, and what `set_postfix` says."""
        parts = (self.desc.strip().removesuffix(":"), str(self.postfix or "").strip(" ,"))
        # A file's name may have characters that are none: a terminal shows them somehow, and so do we.
        return ", ".join(part for part in parts if part).encode("utf-8", "replace").decode()

    # ---- ends ----

    def __enter__(self) -> tqdm:
        self._in_block = True
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._in_block = False
            self._end(error, complete=True)

    def close(self) -> None:
        """Close the bar and, unless a loop or a block decides that later, end the topic."""
        super().close()
        if not (self._in_block or self._looping):
            self._end(None, complete=self._is_complete())

    def finish(self, **members: Any) -> None:
        """Close the bar and end the topic with ``done``, whose data has these members (JSON values) as well.

        Raises `EventError` if they are none; then nothing is closed.
        """
        Event(members)
        super().close()
        self._end(None, complete=True, members=members)

    def _is_complete(self) -> bool:
        return self.total is None or self.n >= self.total

    def _end(self, error: BaseException | None, *, complete: bool, members: Mapping[str, Any] | None = None) -> None:
        # Once: whoever comes later finds nothing to end.
        progress, self._progress = self._progress, None
        if progress is not None:
            _end(progress, _plain(self.n) or 0, _plain(self.total), error, complete, members or {})

    def __del__(self) -> None:
        progress, self._progress = getattr(self, "_progress", None), None
        super().__del__()
        # The collector runs on any thread, and that may hold a lock of this very hub. A process that ends tells nothing:
        # whoever listens hears of it when its lease has run out.
        if progress is not None and not sys.is_finalizing():
            last: tuple[Any, ...] = progress, _plain(self.n) or 0, _plain(self.total), None, self._is_complete(), {}
            threading.Thread(target=_end, args=last, name="sse-tqdm").start()


def _end(
    progress: Progress,
    n: float,
    total: float | None,
    error: BaseException | None,
    complete: bool,
    members: Mapping[str, Any],
) -> None:
    try:
        if progress.n != n or total not in (None, progress.total):
            progress.set(n, total=total)
        if error is not None:
            progress.__exit__(type(error), error, error.__traceback__)
        elif complete:
            progress.finish(**members)
        else:
            progress.fail(f"It ended early, at {n}{'' if total is None else f' of {total}'}.", reason="incomplete")
    except StoppedError:
        pass
    except SSEError as failure:
        _log.warning("The end of %s is not told: %s", progress.topic, failure)


def trange(*args: int, **kwargs: Any) -> tqdm:
    """``tqdm(range(*args), **kwargs)``."""
    return tqdm(range(*args), **kwargs)


class _Nowhere(io.TextIOBase):
    """Where a bar is written that nobody shall see."""

    def write(self, text: str) -> int:
        return len(text)


def _plain(number: Any) -> float | None:
    """A number that JSON has: numpy's are none, and neither are those that are not finite."""
    if number is None:
        return None
    try:
        return operator.index(number)
    except TypeError:
        return float(number) if math.isfinite(number) else None
