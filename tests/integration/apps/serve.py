"""Run the plain application under a server that is a library: ``serve.py waitress|wsgiref THREADS``."""

from __future__ import annotations

import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

import waitress

from tests.integration.apps import common
from tests.integration.apps.wsgi import application


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Serve until killed."""
    server, threads = sys.argv[1:]
    common.open_side_door()
    if server == "wsgiref":
        simple = make_server("127.0.0.1", 0, application, handler_class=_QuietHandler)
        common.notify("ready", address=simple.server_address)
        simple.serve_forever()
    path = f"{common.FOLDER}/http"
    wait = waitress.create_server(application, unix_socket=path, threads=int(threads))
    common.notify("ready", address=path)
    wait.run()


main()
