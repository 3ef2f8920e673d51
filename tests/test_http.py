"""`sse_core.http`: it reads and writes what gunicorn reads and writes, or leaves it alone."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from gunicorn.util import hop_headers
from hypothesis import example, given
from hypothesis import strategies as st

from sse_core.http import Request, format_head, parse_request

LIMITS = (4094, 100, 8190)
DROPPED = frozenset(hop_headers)
PLAIN = (
    b"POST /publish?a=b&c HTTP/1.1\r\nHost: example\r\nContent-Type: text/plain\r\nX-Id:  7 \t\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


def read_by_gunicorn(data: bytes) -> Any:
    """The request that gunicorn reads, with all that it leaves behind as its `rest`."""
    parser = RequestParser(Config(), iter([data]), ("127.0.0.1", 1))
    request = next(parser)
    request.content = request.body.read()
    request.rest = parser.unreader.read()
    return request


METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get", "CONNECT", ""])
TARGETS = st.sampled_from(
    ["/", "/publish", "/a?b=c", "/?", "/a??#", "/a%20b", "/a?b=%20", "//a", "*", "/a b", "/\x7f", "/é", "/a#b"]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1"])
ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", " \r\n"])
NAMES = st.sampled_from(
    ["Host", "Content-Length", "content-length", "Content-Type", "X-Forwarded-Proto", "X-Request-ID", "X_Request_ID",
     "Connection", "Transfer-Encoding", "Expect", "Upgrade", "TE", "Trailer", "Keep-Alive", "Cookie", "cookie", "A b", "",
     "\xdf", "X-" + "a" * 80]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [
            "example",
            "0",
            "3",
            "+3",
            "3,3",
            " 3",
            "03",
            "keep-alive",
            "close",
            "Keep-Alive",
            "chunked",
            "100-continue",
            "https",
        ]
    ),
    st.binary(max_size=6).map(lambda value: value.decode("latin-1")),
)
COLONS = st.sampled_from([":", ": ", ":\t", " : ", ""])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request, often right."""
    text = f"{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}{draw(ENDS)}"
    if draw(st.booleans()):
        text += "Host: example\r\n"
    for _ in range(draw(st.integers(0, 4))):
        text += draw(NAMES) + draw(COLONS) + draw(VALUES) + draw(ENDS)
    return (text + draw(st.sampled_from(["\r\n", "\r\n", "\n", "", " \r\n\r\n"]))).encode("latin-1") + draw(
        st.binary(max_size=4)
    )


@example(PLAIN)
@given(requests())
def test_what_is_read_is_what_gunicorn_reads(data: bytes) -> None:
    """A request that is taken is one that gunicorn takes, to the last byte, and it says the same of it."""
    ours = parse_request(data, *LIMITS)
    if ours is None:
        return
    theirs = read_by_gunicorn(data)
    assert (ours.method, ours.uri, ours.path, ours.query) == (theirs.method, theirs.uri, theirs.path, theirs.query)
    assert ours.headers == theirs.headers
    assert (ours.version, ours.fragment, ours.should_close()) == (
        theirs.version,
        theirs.fragment,
        theirs.should_close(),
    )
    assert ours.body.read() == theirs.content
    assert theirs.rest == b""


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255))
@example(0, ord("p"))
def test_a_byte_that_is_changed_makes_no_difference_to_gunicorn_that_we_do_not_see(place: int, byte: int) -> None:
    """Whatever one byte of a request is replaced by, what is still taken says what gunicorn says of it."""
    data = PLAIN[:place] + bytes([byte]) + PLAIN[place + 1 :]
    ours = parse_request(data, *LIMITS)
    if ours is not None:
        theirs = read_by_gunicorn(data)
        assert ours.headers == theirs.headers
        assert (ours.uri, ours.body.read()) == (theirs.uri, theirs.content)


def test_a_plain_request_is_read() -> None:
    """A publish as clients and nginx send it is plain, and its fields have the names of PEP 3333."""
    request = parse_request(PLAIN, *LIMITS)
    assert isinstance(request, Request)
    assert (request.method, request.uri, request.path, request.query) == ("POST", "/publish?a=b&c", "/publish", "a=b&c")
    assert request.fields == {
        "HTTP_HOST": "example",
        "CONTENT_TYPE": "text/plain",
        "HTTP_X_ID": "7",
        "CONTENT_LENGTH": "5",
    }
    assert request.body.read() == b"hello"
    assert request.environ is None


@pytest.mark.parametrize("size", range(len(PLAIN)))
def test_a_part_of_a_request_is_none(size: int) -> None:
    """Of a request that has not come whole nothing is taken, and nothing behind its end is read."""
    assert parse_request(PLAIN[:size], *LIMITS) is None


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"G",
        PLAIN.replace(b"X-Id", b"Content-Type"),
        PLAIN.replace(b"X-Id:  7 \t", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"X-Id:  7 \t", b"Connection: close"),
        PLAIN.replace(b"X-Id:  7 \t", b"Expect: 100-continue"),
        PLAIN.replace(b"X-Id:  7 \t", b"X_Id: 7"),
        PLAIN.replace(b"X-Id:  7 \t", b"X-Id : 7"),
        PLAIN.replace(b"X-Id:  7 \t", b"X-Id: 7\r\n 8"),
        PLAIN.replace(b"X-Id:  7 \t", b"X-Id: \xe9"),
        PLAIN.replace(b"X-Id:  7 \t", b"X-Id: a\0"),
        PLAIN.replace(b"Host: example", b"Hos: example"),
        PLAIN.replace(b"Length: 5", b"Length: +5"),
        PLAIN.replace(b"Length: 5", b"Length: 0x5"),
        PLAIN.replace(b"Length: 5", b"Length: 1000000000"),
        PLAIN.replace(b"/publish", b"http://example/publish"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"\r\n" + PLAIN,
    ],
)
def test_what_is_not_plain_is_left_alone(data: bytes) -> None:
    """What may mean two things, ends elsewhere or asks for something else is not taken."""
    assert parse_request(data, *LIMITS) is None


def test_limits_are_kept() -> None:
    """A line, a field or a number of fields at its limit is taken, and none beyond it."""
    line = PLAIN.index(b"\r\n") + 2
    field = len(b"Content-Type: text/plain\r\n")
    assert parse_request(PLAIN, line, 4, field) is not None
    assert parse_request(PLAIN, line - 1, 4, field) is None
    assert parse_request(PLAIN, line, 3, field) is None
    assert parse_request(PLAIN, line, 4, field - 1) is None


def test_names_that_clients_invent_take_no_memory_for_ever() -> None:
    """Names of fields are remembered up to a number, and those beyond it are read all the same."""
    for number in range(2_000):
        request = parse_request(PLAIN.replace(b"X-Id", b"X-%d" % number), *LIMITS)
        assert request is not None
        assert request.fields[f"HTTP_X_{number}"] == "7"


# ---- answers ----

DELICATE = 'a:\r\n\0 \t"é\x7f€2'
FIELD_NAMES = st.one_of(
    st.sampled_from(["Content-Type", "X-Id", "Connection", "Date", "content-length", "A:b"]),
    st.text(DELICATE, max_size=4),
)
FIELDS = st.lists(
    st.tuples(FIELD_NAMES, st.one_of(st.sampled_from(["5", " 5", "a b"]), st.text(DELICATE, max_size=4))), max_size=3
)
STATUSES = st.one_of(
    st.sampled_from(
        [
            "200 OK",
            "204 No Content",
            "304 Not Modified",
            "404 Not Found",
            "599 x",
            "100 Continue",
            "200",
            "999 x",
            "200 \r",
        ]
    ),
    st.text(DELICATE, max_size=5),
)


class Sent:
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


class Changing:
    """A field that is another one each time that it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __iter__(self) -> Any:
        self.looks += 1
        return iter(("A", "b" * 10**self.looks))


def test_nothing_of_the_applications_runs_while_a_head_is_written() -> None:
    """What is no tuple is not even looked at: it could be another one when the head is written."""
    changing = Changing()
    headers: list[Any] = [("Content-Length", "5"), changing]
    assert format_head("200 OK", headers, frozenset()) is None
    assert changing.looks == 0


def answered_by_gunicorn(status: str, headers: list[tuple[str, str]]) -> tuple[list[bytes], int | None]:
    """The lines of the head that gunicorn sends but for the three of its own, and the length that it knows."""
    request = parse_request(PLAIN, *LIMITS)
    response = Response(request, Sent(), Config())
    response.start_response(status, headers)
    assert not response.should_close()
    response.send_headers()
    lines = response.sock.data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return [lines[0], *lines[4:]], response.response_length


@given(STATUSES, FIELDS, st.booleans())
@example("200 OK", [("Content-Type", "text/plain")], True)
def test_the_head_that_is_written_is_gunicorns(status: str, headers: list[tuple[str, str]], with_length: bool) -> None:
    """A head that is written here is the one that gunicorn writes; what it refuses or drops is not."""
    headers = [*headers, ("Content-Length", "5")] if with_length else headers
    plain = format_head(status, headers, DROPPED)
    if plain is not None:
        lines, length = answered_by_gunicorn(status, headers)
        assert plain[0].removesuffix(b"\r\n").split(b"\r\n") == lines
        assert plain[1] == length


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", []),
        ("204 No Content", [("Content-Length", "0")]),
        ("304 Not Modified", [("Content-Length", "0")]),
        ("200 OK", [("Content-Length", "5"), ("Content-Length", "5")]),
        ("200 OK", [("Content-Length", "-5")]),
        ("200 OK", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]),
        ("200 OK", [("Content-Length", "5"), ("X-Id", "a\r\nSet-Cookie: b")]),
        ("200 OK", [("Content-Length", "5"), ("X-Id\r\nA", "b")]),
        ("200 OK\r\nA: b", [("Content-Length", "5")]),
        ("200 OK", [("Content-Length", "5"), ("X-Id", "é")]),
        ("200 OK", [("Content-Length", "5"), ("X-Id", 7)]),
        ("200 OK", [("Content-Length", "5"), ["X-Id", "7"]]),
        ("200 OK", [("Content-Length", "5"), ("X-Id", "7", "8")]),
        ("200 OK", [("Content-Length", "5"), iter(("X-Id", "7"))]),
    ],
)
def test_an_answer_that_needs_a_second_look_is_left_to_gunicorn(status: str, headers: list[tuple[str, Any]]) -> None:
    """Nothing is written of an answer without a length or a body, or with what must not get into a head."""
    assert format_head(status, headers, DROPPED) is None
