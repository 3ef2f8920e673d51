"""gunicorn's hooks for the tests: each worker opens its side door and says that it is ready, and how it ended."""

from __future__ import annotations

from typing import Any

control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """The application is loaded, and gevent has patched."""
    # Not at the top: gunicorn reads this file in the master, and only with preload_app shall that load the hub.
    from tests.integration.apps import common

    common.worker = worker
    common.open_side_door()
    common.notify("ready")


def worker_exit(server: Any, worker: Any) -> None:
    """Runs in the worker, last."""
    from tests.integration.apps import common

    common.notify("exit", state=common.state())
