"""Plain WSGI, with the middleware and the mistakes that a stream may meet."""

from __future__ import annotations

import io
import json
import sys
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.integration.apps import common

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    route = _routes.get(environ["PATH_INFO"])
    if route is None:
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    return route(environ, start_response)


def events(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    stream = common.hub.subscribe(common.topics(environ["QUERY_STRING"]), environ=environ)
    start_response("200 OK", stream.headers + common.head())
    return stream


def publish(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return _answer(start_response, common.publish(environ["QUERY_STRING"]))


def stats(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return _answer(start_response, common.stats())


def plain(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return _answer(start_response, b"plain\n")


def gated(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A stream whose view takes as long as the test wants."""
    common.notify("at the gate")
    common.gate.wait()
    return events(environ, start_response)


def gzipped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """What a compressing middleware makes of a stream."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, ("Content-Encoding", "gzip")], exc_info)

    return _Gzip(events(environ, start))


class _Gzip:
    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._encoder = zlib.compressobj(wbits=31)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            yield self._encoder.compress(chunk) + self._encoder.flush(zlib.Z_SYNC_FLUSH)
        yield self._encoder.flush()

    def close(self) -> None:
        self._body.close()  # type: ignore[attr-defined]


def without_environ(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that does not show the request to the hub."""
    stream = common.hub.subscribe(common.topics(environ["QUERY_STRING"]))
    start_response("200 OK", stream.headers)
    return stream


def with_length(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that promises a length, which no stream has."""
    stream = common.hub.subscribe(common.topics(environ["QUERY_STRING"]), environ=environ)
    start_response("200 OK", [*stream.headers, ("Content-Length", "20")])
    return stream


def no_content(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that answers with a status that has no body."""
    stream = common.hub.subscribe(common.topics(environ["QUERY_STRING"]), environ=environ)
    start_response("204 No Content", [])
    return stream


def created(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A stream with a status other than 200."""
    stream = common.hub.subscribe(common.topics(environ["QUERY_STRING"]), environ=environ)
    start_response("201 Created", stream.headers)
    return stream


def broken(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that fails after it has subscribed."""
    common.hub.subscribe(common.topics(environ["QUERY_STRING"]), environ=environ)
    raise RuntimeError("broken on purpose")


def replaced(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A middleware that looks at the first chunk, fails, and answers with an error page instead."""
    body = iter(events(environ, start_response))
    try:
        next(body)
        raise RuntimeError("broken on purpose")
    except RuntimeError as error:
        body.close()  # type: ignore[attr-defined]
        start_response("500 Internal Server Error", [], (RuntimeError, error, error.__traceback__))
        return [b"an error page\n"]


def dropped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A middleware that looks at the first chunk, closes the stream, and sends something else with its head."""
    body = iter(events(environ, start_response))
    next(body)
    body.close()  # type: ignore[attr-defined]
    return [b"retry: 1\n\n"]


def refused(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that refuses a body without reading it."""
    start_response("413 Content Too Large", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    return [b"too large\n"]


def exiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that calls sys.exit."""
    sys.exit("a view means to end the program")


class _Mark:
    """Something that an application leaves in the environ of each request."""


_marks: weakref.WeakSet[_Mark] = weakref.WeakSet()


def shown(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """What the server tells of a request, and the class of what it is read from: gunicorn's, or that of a plain one."""
    told = {name: value for name, value in environ.items() if isinstance(value, str | bool | tuple)}
    told["body"] = environ["wsgi.input"].read().decode()
    told["read from"] = type(environ["wsgi.input"]).__name__
    told["environs"] = len(_marks)
    environ["mark"] = mark = _Mark()
    _marks.add(mark)
    return _answer(start_response, json.dumps(told).encode())


def hinted(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that sends early hints (RFC 8297)."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    return _answer(start_response, b"hinted\n")


def in_parts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A body of known length in several parts."""
    start_response("200 OK", [("Content-Length", "6")])
    return iter([b"on", b"", b"ce\n", b"too much"])


def unknown_length(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A body that is sent in chunks."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"one ", b"two\n"])


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A body that the server reads from a file."""
    start_response("200 OK", [("Content-Length", "5")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"file\n"))
    return wrapped


def breaks_off(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A view that fails in the middle of its body."""
    start_response("200 OK", [("Content-Length", "10")])
    yield b"half "
    raise RuntimeError("broken on purpose")


def collected(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A middleware that wants the whole body before it starts the response, to know its length."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(events(environ, lambda status, headers, exc_info=None: started.append((status, headers))))
    start_response(started[0][0], [*started[0][1], ("Content-Length", str(len(body)))])
    return [body]


def collected_late(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A middleware that starts the response and then wants the whole body at once."""
    return [b"".join(events(environ, start_response))]


def _answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


_routes: dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]] = {
    "/events": events,
    "/publish": publish,
    "/stats": stats,
    "/plain": plain,
    "/gated": gated,
    "/gzipped": gzipped,
    "/without-environ": without_environ,
    "/with-length": with_length,
    "/no-content": no_content,
    "/created": created,
    "/broken": broken,
    "/replaced": replaced,
    "/dropped": dropped,
    "/refused": refused,
    "/shown": shown,
    "/hinted": hinted,
    "/in-parts": in_parts,
    "/unknown-length": unknown_length,
    "/file": file,
    "/breaks-off": breaks_off,
    "/exiting": exiting,
    "/collected": collected,
    "/collected-late": collected_late,
}
