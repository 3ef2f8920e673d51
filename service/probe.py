"""Is the service that listens here well? One question and one answer, for health checks of containers and units."""

from __future__ import annotations

import re

from .client import CONNECTION_ERRORS, MAX_ERROR_BYTES, AddressError, Server, problem

LIVE = "healthz"
READY = "readyz"

#: Addresses to listen on that nobody can connect to, and where the same service answers.
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}
_TCP = re.compile(r"(?:tcp://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:/\[\]]*))(?::(?P<port>\d+))?")
_DEFAULT_PORT = "8000"


class UnhealthyError(Exception):
    """The service does not answer, or says that it is not well."""


def reachable(bind: str) -> Server:
    """Return the server that listens on ``bind``, as ``serve --bind`` takes it. Raises `AddressError`.

    Of several addresses with commas it is the first. Those that mean "any of this machine" are asked on loopback.
    """
    first = bind.partition(",")[0].strip()
    if first.startswith("unix:"):
        # gunicorn takes both spellings.
        return Server("unix:" + first.removeprefix("unix:").removeprefix("//"))
    match = _TCP.fullmatch(first)
    if match is None:
        raise AddressError(f"{first!r} is neither HOST:PORT nor unix:PATH")
    host = match["v6"] if match["v6"] is not None else match["host"]
    host = _ANY.get(host) or (f"[{host}]" if ":" in host else host)
    return Server(f"http://{host}:{match['port'] or _DEFAULT_PORT}")


def check(server: Server, *, ready: bool, timeout: float) -> None:
    """Ask once, whether the service is worth keeping, or with ``ready`` whether it takes new streams.

    ``timeout`` is the longest silence, in seconds. Raises `UnhealthyError` with the reason. Thread-safe.
    """
    name = READY if ready else LIVE
    connection = server.connection()
    connection.timeout = timeout
    try:
        connection.request("GET", server.path(name, None))
        response = connection.getresponse()
        answer = response.read(MAX_ERROR_BYTES)
    except CONNECTION_ERRORS as error:
        raise UnhealthyError(f"no answer from {server}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if response.status != 200:
        document = problem(answer)
        detail = document.get("detail") or document.get("title") or response.reason
        raise UnhealthyError(f"/{name} of {server} says {response.status}: {detail}")
