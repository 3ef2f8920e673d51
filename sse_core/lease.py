"""`Lease`: one process of all that share a namespace does a thing, and another goes on where that one died."""

from __future__ import annotations

from sse_core.backplane import Backplane


class Lease:
    """Held by one process at a time; made by `Hub.lease`. Use it from one thread.

    Call `hold` well within ``seconds``: a holder that does not is replaced. What a holder must hand on (how far it came) is
    the lease's ``note``: it outlives the holder by a day.
    """

    def __init__(self, backplane: Backplane, name: str, *, seconds: float) -> None:
        self._backplane = backplane
        self._name = name
        self._seconds = seconds
        #: The last note of any holder, as of the last `hold`; None if there is none.
        self.note: str | None = None

    def hold(self, note: str | None = None) -> bool:
        """Take or renew the lease: True while this process holds it. ``note`` replaces the note if it does.

        Raises `BackplaneError`, and then nothing is known: act as one who does not hold it.
        """
        held, self.note = self._backplane.hold(self._name, self._seconds, note)
        return held

    def release(self) -> None:
        """Let another process take it at once. Raises `BackplaneError`; the lease then runs out by itself."""
        self._backplane.release(self._name)
