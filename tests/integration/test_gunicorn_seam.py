"""The seam with gunicorn 27.0: what EventWorker relies on, one fact a test, so that an update says what has moved."""

from __future__ import annotations

import inspect
import io
import socket
from concurrent.futures import Future
from typing import Any

import gunicorn
import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import TConn, ThreadWorker

from sse_core.arriving import Arrivals
from sse_core.parting import Partings
from sse_core.worker import EventWorker


class _Request:
    version = (1, 1)
    method = "GET"
    body = None

    def should_close(self) -> bool:
        return False


class _Log:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@pytest.fixture
def response(pair: tuple[socket.socket, socket.socket]) -> Any:
    """gunicorn's response to a GET over HTTP/1.1, not started."""
    return Response(_Request(), pair[0], Config())


def parameters(function: Any) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)


def test_the_version_is_one_that_was_looked_at() -> None:
    """These facts were read in gunicorn 27.0; any other release has to be looked at before it is allowed."""
    assert gunicorn.version_info[:2] == (27, 0), f"gunicorn is {gunicorn.__version__}: read its gthread.py and wsgi.py"


@pytest.mark.parametrize(
    ("owner", "method", "names"),
    [
        (ThreadWorker, "finish_request", ["self", "conn", "fs"]),
        (ThreadWorker, "handle_request", ["self", "req", "conn"]),
        (ThreadWorker, "handle", ["self", "conn"]),
        (ThreadWorker, "handle_http2", ["self", "conn"]),
        (Worker, "init_process", ["self"]),
        (ThreadWorker, "run", ["self"]),
        (ThreadWorker, "notify", ["self"]),
        (ThreadWorker, "handle_quit", ["self", "sig", "frame"]),
        (Worker, "load_wsgi", ["self"]),
        (Response, "start_response", ["self", "status", "headers", "exc_info"]),
        (Response, "force_close", ["self"]),
    ],
)
def test_a_method_has_the_parameters_that_we_know(owner: type, method: str, names: list[str]) -> None:
    """What EventWorker overrides or calls exists under its name and takes what it took."""
    assert hasattr(owner, method), f"{owner.__name__}.{method} is gone"
    found = parameters(getattr(owner, method))
    assert found == names, f"{owner.__name__}.{method} takes {found} now, and took {names}"


@pytest.mark.parametrize(
    "method",
    [
        "finish_request",
        "handle",
        "handle_http2",
        "handle_quit",
        "handle_request",
        "init_process",
        "load_wsgi",
        "notify",
        "run",
    ],
)
def test_our_method_stands_in_for_gunicorns(method: str) -> None:
    """Every override of EventWorker has the same parameters as what it overrides."""
    ours, theirs = parameters(getattr(EventWorker, method)), parameters(getattr(ThreadWorker, method))
    assert ours == theirs, f"{method}: ours takes {ours}, gunicorn's {theirs}"


def test_start_response_is_a_method_of_the_response(response: Any) -> None:
    """The application's start_response leads to gunicorn's Response: that is all an offer knows of the request."""
    assert response.start_response.__self__ is response, "start_response is no bound method of Response any more"
    source = inspect.getsource(ThreadWorker.handle_request)
    assert "self.wsgi(environ, resp.start_response)" in source, "handle_request calls the application in another way"


@pytest.mark.parametrize(
    ("name", "before"),
    [("status", None), ("chunked", False), ("must_close", False), ("headers_sent", False), ("response_length", None)],
)
def test_a_response_that_is_not_started_has_the_attributes_we_read(response: Any, name: str, before: object) -> None:
    """Before start_response an attribute that decides about a claim has the value that we take for undecided."""
    assert hasattr(response, name), f"Response.{name} is gone"
    assert getattr(response, name) == before, f"Response.{name} begins as {getattr(response, name)!r}, not {before!r}"


def test_starting_a_response_sets_what_a_claim_depends_on(response: Any) -> None:
    """start_response sets status_code, chunked and headers as tuples, and sends nothing yet."""
    response.start_response("200 OK", [("Content-Type", "text/event-stream")])
    assert response.status == "200 OK", "Response.status has moved"
    assert response.status_code == 200, "Response.status_code has moved"
    assert response.chunked is True, "a response without length is not chunked at start_response any more"
    assert response.headers == [("Content-Type", "text/event-stream")], "Response.headers has another form"
    assert response.headers_sent is False, "start_response sends the head at once"
    assert response.req.version == (1, 1), "Response.req.version has moved"
    assert not response.cfg.is_ssl, "Response.cfg.is_ssl has moved"


def test_a_length_is_noted_at_start_response(response: Any) -> None:
    """A Content-Length of the application is found in response_length."""
    response.start_response("200 OK", [("Content-Length", "5")])
    assert response.response_length == 5, "Response.response_length does not hold the Content-Length any more"


def test_a_claim_makes_a_head_that_is_delimited_by_close(
    response: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    """chunked = False and force_close(), set after start_response, change the head that the first write sends."""
    response.start_response("200 OK", [("Content-Type", "text/event-stream")])
    response.chunked = False
    response.force_close()
    response.write(b"retry: 1\n\n")
    response.close()
    assert response.should_close(), "force_close() does not make should_close() true any more"
    received = pair[1].recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head, "force_close() does not announce the close any more"
    assert b"Transfer-Encoding" not in head, "chunked = False does not take the coding out of the head any more"
    assert body == b"retry: 1\n\n", "a body that is not chunked is framed all the same"


def test_a_refusal_to_keep_the_connection_is_false() -> None:
    """handle_request returns False for a response that closes, and True else: the claim is committed on False."""
    source = inspect.getsource(ThreadWorker.handle_request)
    assert "if resp.should_close():" in source, "handle_request decides about the close in another way"
    assert source.rstrip().endswith("return True"), "handle_request does not end with True any more"


class _Worker(EventWorker):
    """An EventWorker without a process."""

    def __init__(self) -> None:
        self.log = _Log()
        self.nr_conns = 1
        self.alive = True
        self.hubs = set()
        self.partings = Partings()
        self.arrivals = Arrivals()
        self.pending_conns = []
        self._served = set()
        self._beats_at = 0.0


class _Hub:
    def __init__(self) -> None:
        self.adopted: list[int] = []
        self.given_up: list[object] = []

    def give_up(self, stream: object) -> None:
        self.given_up.append(stream)

    def adopt(self, stream: object, connection: socket.socket) -> None:
        self.adopted.append(connection.detach())


class _FailingHub(_Hub):
    def adopt(self, stream: object, connection: socket.socket) -> None:
        raise ZeroDivisionError


class _Stream:
    handed_over = True

    def __init__(self) -> None:
        self.hub: _Hub = _Hub()


def connection(sock: socket.socket) -> Any:
    """gunicorn's record of a connection."""
    return TConn(Config(), sock, ("", 0), ("", 0))


def connection_of(sock: socket.socket) -> Any:
    """The same of a socket that may be closed."""
    conn = TConn.__new__(TConn)
    conn.sock = sock
    return conn


def test_a_connection_has_its_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """TConn.sock is the socket, and TConn takes further attributes: the claim is noted on it."""
    conn = connection(pair[0])
    assert conn.sock is pair[0], "TConn.sock has moved"
    conn.claimed_by = None


def test_a_connection_that_is_over_is_counted_off_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection without a claim is seen off, and one that gunicorn has closed already is not subtracted twice."""
    for closed in (False, True):
        worker = _Worker()
        done: Future[bool] = Future()
        done.set_result(False)
        if closed:
            pair[0].close()
        pair[1].close()
        worker.finish_request(connection_of(pair[0]), done)
        assert worker.nr_conns == 0
        assert pair[0].fileno() == -1
        worker.partings.close()


def test_a_claimed_connection_changes_hands_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """finish_request of a claimed connection counts it off once and leaves its descriptor with the engine alone."""
    worker, stream, conn = _Worker(), _Stream(), connection(pair[0])
    conn.claimed_by = stream
    descriptor = pair[0].fileno()
    done: Future[bool] = Future()
    done.set_result(False)
    worker.finish_request(conn, done)
    assert stream.hub.adopted == [descriptor]
    assert (worker.nr_conns, conn.sock.fileno()) == (0, -1)
    socket.socket(fileno=descriptor).close()


def test_an_application_that_fails_while_a_stream_changes_hands_ends_that_stream_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Whatever a hand-over raises, as an application's own ``admit`` may, closes its connection and leaves the worker alone."""
    worker, stream, conn = _Worker(), _Stream(), connection(pair[0])
    conn.claimed_by = stream
    stream.hub = _FailingHub()
    done: Future[bool] = Future()
    done.set_result(False)
    worker.finish_request(conn, done)

    assert stream.hub.given_up == [stream]
    assert (worker.nr_conns, conn.sock.fileno()) == (0, -1)


@pytest.mark.parametrize("outcome", [True, OSError("reset"), None])
def test_a_claim_that_did_not_end_in_order_is_gunicorns(
    pair: tuple[socket.socket, socket.socket], outcome: bool | OSError | None
) -> None:
    """A claimed connection whose request failed, was cancelled or is kept goes the way gunicorn decides."""
    worker, stream, conn = _Worker(), _Stream(), connection(pair[0])
    conn.claimed_by = stream
    conn.parser = type("Parser", (), {"unreader": type("Unreader", (), {"buf": io.BytesIO()})})
    worker.keepalived_conns = []
    worker.poller = _Log()
    done: Future[bool] = Future()
    if outcome is None:
        done.cancel()
    elif isinstance(outcome, OSError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
    pair[1].close()
    worker.finish_request(conn, done)
    kept = outcome is True
    assert stream.hub.adopted == []
    # Its place among the streams is free again.
    assert stream.hub.given_up == ([] if kept else [stream])
    assert worker.nr_conns == kept
    assert (conn in worker.keepalived_conns) == kept


@pytest.mark.parametrize(
    ("head", "body"), [(b"Content-Length: 5", b"hello"), (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")]
)
def test_a_body_tells_what_of_it_is_unread(head: bytes, body: bytes) -> None:
    """gunicorn's readers of a body say whether there is more: a length that goes down, a parser that goes away."""
    config = Config()
    chunks = iter([b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body])
    request = next(RequestParser(config, chunks, ("127.0.0.1", 1)))
    reader = request.body.reader
    assert getattr(reader, "length", 5) == 5, "the length of an unread body is kept elsewhere"
    assert hasattr(reader, "length") or reader.parser is not None, "chunks are read in another way"
    assert request.body.read() == b"hello"
    assert getattr(reader, "length", 0) == 0, "the length of a body that was read is not 0 any more"
    assert getattr(reader, "parser", None) is None, "the parser of chunks that were read is still there"


def test_a_request_without_a_body_has_nothing_unread() -> None:
    """A GET is not taken for one whose body is unread, or no connection would be kept."""
    request = next(RequestParser(Config(), iter([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]), ("127.0.0.1", 1)))
    assert request.body.reader.length == 0


def test_a_busy_worker_does_not_beat_with_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn notifies before each request: a worker beats every tenth of a second, and at once when it is to stop."""
    beats: list[float] = []
    now = 1000.0
    monkeypatch.setattr(Worker, "notify", lambda worker: beats.append(now))
    monkeypatch.setattr("sse_core.worker.time.monotonic", lambda: now)
    worker = _Worker()
    for _ in range(100):
        worker.notify()
    assert beats == [1000.0]
    now = 1000.11
    worker.notify()
    worker.notify()
    assert beats == [1000.0, 1000.11]
    worker.alive = False
    worker._draining = True
    worker.notify()
    assert len(beats) == 3


def test_the_arbiter_tells_a_worker_by_its_beat() -> None:
    """Worker.notify touches the file that the arbiter looks at, so that a notify left out is a beat left out."""
    assert "self.tmp.notify()" in inspect.getsource(Worker.notify), "Worker.notify beats in another way"
    assert "self.notify()" in inspect.getsource(ThreadWorker.run), "ThreadWorker.run does not call notify any more"


def test_a_parser_has_what_stands_in_for_it(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection's parser has an unreader with the socket and with what was read too much, and reads what is put back."""
    parser = RequestParser(Config(), pair[0], ("", 0))
    assert parser.unreader.sock is pair[0], "the socket of a parser has moved"
    assert parser.unreader.buf.getvalue() == b"", "what was read too much is kept elsewhere"
    parser.unreader.unread(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert next(parser).path == "/a"
    assert parser.finish_body(deadline=0.0) in (True, False), "finish_body takes no deadline any more"
    assert "next(conn.parser)" in inspect.getsource(ThreadWorker.handle), "requests are read in another way"
    assert "conn.parser.finish_body(deadline=" in inspect.getsource(ThreadWorker._keepalive_after)


def test_what_asks_for_more_than_an_answer_is_known() -> None:
    """Hooks and the access log are told as they were: a worker that may not leave them out finds them."""
    config = Config()
    for hook in ("pre_request", "post_request"):
        assert config.settings[hook].get() is config.settings[hook].default, f"the default of {hook} is kept elsewhere"
    # Without its constructor, which changes the loggers of this very process.
    logger = Logger.__new__(Logger)
    logger.cfg = config
    assert logger.access_log_enabled is False
    assert (config.protocol, config.keepalive > 0, config.threads) == ("http", True, 1)


def test_what_a_request_that_follows_takes_from_gunicorn_is_there() -> None:
    """What is done anew for each request on a connection is what gunicorn did when it was looked at."""
    source = inspect.getsource(ThreadWorker.handle_request)
    for part in (
        "self.nr += 1",
        "if self.nr >= self.max_requests:",
        "len(self.keepalived_conns) >= self.max_keepalived",
        "isinstance(respiter, environ['wsgi.file_wrapper'])",
        "resp.close()",
        "util.close_graceful(conn.sock)",
    ):
        assert part in source, f"handle_request has no {part!r} any more"
    assert parameters(wsgi.create)[:5] == ["req", "sock", "client", "server", "cfg"]
