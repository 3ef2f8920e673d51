"""``/runs/{run}``: the stream of a run, whoever has started it. ``/runs/{run}/stop``: its end."""

from __future__ import annotations

import re

import falcon
import msgspec

from sse_core import BackplaneError, HubClosedError, LimitError

from ..auth import check_stop
from ..backplane import DEFAULT_NAMESPACE
from ..namespaces import Namespaces
from ..problems import Problem, backplane_problem
from ..runs import JSON
from ..subscriber import comes_back
from ..topics import RUN_PREFIX

# As they are made; anything else never was one.
RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RunResource:
    """The stream of one run, from its first event on or after the last event id; 204 to who has seen its last one.

    The name of a run cannot be guessed: who was told it may listen.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        namespace = namespaces.find(DEFAULT_NAMESPACE)
        self._hub = namespace.hub
        self._subscriber = namespace.subscriber

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        """Stream the run. 404 for one that never was, as far as is known, to who brings no id of an event either."""
        if not RUN.fullmatch(run) or not (comes_back(req) or self._may_exist(run)):
            raise _unknown(run)
        self._subscriber.subscribe(req, resp, [RUN_PREFIX + run])

    on_head = on_get

    def _may_exist(self, run: str) -> bool:
        try:
            return self._hub.production(RUN_PREFIX + run) is not None
        except (BackplaneError, LimitError, HubClosedError):
            # Nobody can say now. The stream is told so softly, since an error's status would be the end of it.
            return True


class StopResource:
    """Ends a run, in whatever process it is."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._hub = namespaces.find(DEFAULT_NAMESPACE).hub

    def on_post(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        """End it now, and answer whether it was running. Whoever listens gets ``done``, reason ``stopped``."""
        check_stop(req)
        topic = RUN_PREFIX + run
        try:
            if not RUN.fullmatch(run) or self._hub.production(topic) is None:
                raise _unknown(run)
            stopped = self._hub.stop(topic)
        except BackplaneError as error:
            raise backplane_problem(error, "Whether the run was stopped is unknown; ask again.") from None
        resp.data = msgspec.json.encode({"stopped": stopped})
        resp.content_type = JSON
        resp.set_header("Cache-Control", "no-store")


def _unknown(run: str) -> Problem:
    return Problem(404, "unknown-run", f"There is no run {run[:64]!r} here, or it was long ago.")
