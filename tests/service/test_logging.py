"""Our log: one format, safe on a terminal, without what nobody may read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sse_kit import logging as service_logging
from sse_kit.logging import Handler, configure
from sse_kit.settings import Settings


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is written to standard error in the format that the test is parametrized with."""
    configure(Settings(log_format=request.param))
    (handler,) = [each for each in logging.getLogger().handlers if isinstance(each, Handler)]
    written = io.StringIO()
    handler.setStream(written)
    yield written
    configure(Settings())


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\nforged line\x7f\u202egnp.exe\u2028x"


@pytest.mark.parametrize("lines", ["console"], indirect=True)
def test_a_log_cannot_drive_the_terminal(lines: io.StringIO) -> None:
    """On a console control characters are shown and not sent, wherever they come from: it is one line of text."""
    structlog.get_logger("sse_kit.test").warning(HOSTILE, value=HOSTILE, nested={"a": [HOSTILE]})
    logging.getLogger("other").warning("%s", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger("sse_kit.test").exception("failed")

    text = lines.getvalue()
    assert not set(text) & set("\x1b\x07\x9b\r\x7f\u202e\u2028")
    assert "\\x1b[2J" in text
    assert "\\u202e" in text
    # Of a line of its own only a traceback's text can have one, and that stands behind its exception's name.
    assert [line for line in text.splitlines() if line.startswith("forged")] == [
        "forged line\\x7f\\u202egnp.exe\\u2028x"
    ]


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_json_is_one_object_a_line(lines: io.StringIO) -> None:
    """For machines each line is one JSON object in ASCII, whatever is in it."""
    structlog.get_logger("sse_kit.test").warning(HOSTILE, value=HOSTILE)
    (line,) = lines.getvalue().splitlines()

    assert line.isascii()
    assert json.loads(line)["value"] == HOSTILE


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
def test_tracebacks_show_no_local_variables(lines: io.StringIO) -> None:
    """A traceback has the lines of the program and not the values that they were about."""

    def fail() -> None:
        secret = "".join(["hun", "ter2"])
        assert len(secret) == 7
        raise RuntimeError("no value in here")

    try:
        fail()
    except RuntimeError:
        structlog.get_logger("sse_kit.test").exception("failed")

    text = lines.getvalue()
    assert "RuntimeError: no value in here" in text
    assert "hunter2" not in text


#: What gunicorn logs of requests that it cannot read, at its levels warning and debug.
QUOTED = (
    "Invalid request from ip=: Invalid HTTP Version: 'b&access_token={} HTTP/1.1'",
    "Error handling request GET /events?access%5Ftoken={}&topic=a",
    r"Ignored premature client disconnection. No more data after: b'GET / HTTP/1.1\r\nAuthorization: Bearer {}\r\nX'",
    "Invalid HTTP Header: 'Cookie: __Host-sse-kit={}; a=b'",
    "Invalid HTTP Header: 'X-Token: {}'",
)
SECRETS = ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl", "0123456789abcdef~+/-._0123456789abcdef==")


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
@pytest.mark.parametrize(
    ("text", "secret"),
    [(text, secret) for text in QUOTED for secret in SECRETS if "X-Token" not in text or "eyJ" in secret],
)
def test_tokens_are_not_logged(lines: io.StringIO, text: str, secret: str) -> None:
    """A token that stands in what gunicorn quotes of a request, or in a traceback's text, is not in the log."""
    logging.getLogger("gunicorn.error").warning("%s", text.format(secret))
    try:
        raise ValueError(text.format(secret))
    except ValueError:
        structlog.get_logger("sse_kit.test").exception("failed")

    written = lines.getvalue()
    assert written.count(text.partition("{}")[0][:20]) >= 2
    assert not [part for part in secret.split(".") if len(part) > 5 and part in written]


def test_numbers_stay_numbers() -> None:
    """Only what is text to a terminal is escaped."""
    event = service_logging.escape_controls(
        None, "info", {"a": 1, "b": None, "c": 1.5, "d": True, "exception": "a\nb\t"}
    )

    assert event == {"a": 1, "b": None, "c": 1.5, "d": True, "exception": "a\nb\\x09"}
