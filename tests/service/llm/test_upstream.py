from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from sse_core import FailedError, StoppedError
from sse_kit.llm import Finish, Generation, Prompt
from sse_kit.llm.upstream import Bounds, trusted_certificates
from tests.service.llm.vendor import (
    KEY,
    WAIT,
    Answer,
    Dialect,
    Exchange,
    Vendor,
    chunks,
    dropped,
    read,
    refused,
    silent,
    vendor,
)

PROMPT = Prompt("Why?", "m-1", 100)
BOUNDS = Bounds(connect_timeout=WAIT, timeout=WAIT, max_seconds=WAIT, max_answer_bytes=1 << 20, retries=0)
RETRYING = replace(BOUNDS, retries=2)


def ask(vendors: Dialect, server: Vendor, bounds: Bounds = BOUNDS) -> Generation:
    return vendors.provider(server.url, bounds).generate(PROMPT)


def failure(generation: Generation) -> tuple[list[str], FailedError]:
    tokens, error = read(generation)
    assert isinstance(error, FailedError)
    return tokens, error


class Reading:
    """A generation that is read on a thread, as a producer does."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.result: Any = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self.result = read(self.generation)

    def join(self) -> Any:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        return self.result


def test_tokens_come_as_they_are_sent(vendors: Dialect) -> None:
    """Each token is yielded before the provider sends the next one."""
    sent = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.head()
        for event in vendors.begun("Because"):
            exchange.chunk(event)
        assert sent.wait(WAIT)
        for event in (vendors.token(" so."), *vendors.closing):
            exchange.chunk(event)
        exchange.end()

    with vendor(answer) as server:
        tokens = ask(vendors, server).tokens()
        assert next(tokens) == "Because"
        sent.set()
        assert list(tokens) == [" so."]


def test_any_script_cut_anywhere(vendors: Dialect) -> None:
    """A character whose bytes come in different packets is one character."""
    text = "你好,世界, नमस्ते 👩\u200d👩\u200d👧"
    body = b"".join(vendors.whole(*text))

    with vendor(chunks(*(body[i : i + 1] for i in range(len(body))))) as server:
        tokens, finish = read(ask(vendors, server))

    assert "".join(tokens) == text
    assert isinstance(finish, Finish)


def test_an_empty_answer_is_an_answer(vendors: Dialect) -> None:
    """A model that says nothing and says that this is all has answered."""
    with vendor(chunks(*vendors.whole())) as server:
        tokens, finish = read(ask(vendors, server))

    assert tokens == []
    assert isinstance(finish, Finish)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("401 Unauthorized", "credentials"),
        ("403 Forbidden", "credentials"),
        ("400 Bad Request", "refused"),
        ("404 Not Found", "refused"),
        ("429 Too Many Requests", "rate-limited"),
        ("500 Internal Server Error", "upstream"),
        ("502 Bad Gateway", "upstream"),
        ("503 Service Unavailable", "overloaded"),
        ("302 Found", "upstream"),
    ],
)
def test_statuses(vendors: Dialect, status: str, reason: str) -> None:
    """A status is passed on as its class; what the provider writes, and the key in it, is for nobody to see."""
    body = {"error": {"type": "an_error", "message": f"{KEY} of org-7 is no good"}}

    with vendor(refused(status, body, Location="/elsewhere")) as server, capture_logs() as log:
        tokens, error = failure(ask(vendors, server))

    assert (tokens, error.reason, error.members["status"]) == ([], reason, int(status[:3]))
    assert "org-7" not in error.message
    assert KEY not in str(log)
    (entry,) = log
    assert (entry["provider"], entry["reason"]) == (vendors.name, reason)
    assert "[secret] of org-7" in entry["error"]


def test_the_message_says_what_can_be_done(vendors: Dialect) -> None:
    """Refused credentials are the server's affair, a rate limit is one of waiting."""
    with vendor(refused("401 Unauthorized", {}), refused("429 Too Many Requests", {}, Retry_After="20")) as server:
        _, credentials = failure(ask(vendors, server))
        _, limited = failure(ask(vendors, server, RETRYING))

    assert credentials.message == "The provider refused the credentials of this server."
    assert limited.members == {"status": 429, "retry_after": 20.0}
    # Twenty seconds are too long to let somebody wait for a first word: both were asked once.
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "The provider's answer broke off before its end."),
        ([b"<!doctype html><title>Welcome</title>"], "The provider's answer broke off before its end."),
        ([b"event: message_start\ndata: {nonsense\n\n"], "The provider has sent something that is no answer."),
        ([b'event: message_start\ndata: "\xff"\n\n'], "The provider has sent something that is no answer."),
        ([b"event: message_start\ndata: 7\n\n"], "The provider has sent something that is no answer."),
    ],
)
def test_what_is_no_answer(vendors: Dialect, parts: list[bytes], message: str) -> None:
    """A server that speaks something else, or ends without saying how, has not answered."""
    with vendor(chunks(*parts)) as server:
        tokens, error = failure(ask(vendors, server))

    assert (tokens, error.reason, error.message) == ([], "upstream", message)


def test_a_connection_that_drops(vendors: Dialect) -> None:
    """What came before stays, and the end says that it is none; nothing is asked again."""
    with vendor(dropped(*vendors.begun("Becau"))) as server:
        tokens, error = failure(ask(vendors, server, RETRYING))

    assert (tokens, error.reason) == (["Becau"], "upstream")
    assert len(server.requests) == 1


def test_a_connection_that_drops_without_a_length(vendors: Dialect) -> None:
    """A body that ends with its connection looks whole to HTTP; the missing last event tells."""

    def answer(exchange: Exchange) -> None:
        exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        exchange.connection.sendall(b"".join(vendors.begun("Becau")))

    with vendor(answer) as server:
        tokens, error = failure(ask(vendors, server))

    assert (tokens, error.reason) == (["Becau"], "upstream")


def test_a_provider_that_says_nothing(vendors: Dialect) -> None:
    """Silence in the middle of an answer ends it after the timeout, and the connection with it."""
    with vendor() as server:
        server.answers.append(server.stall(*vendors.begun("Becau")))
        tokens, error = failure(ask(vendors, server, replace(RETRYING, timeout=0.2)))

        assert (tokens, error.reason) == (["Becau"], "timeout")
        assert server.left.wait(WAIT)
    assert len(server.requests) == 1


def test_a_provider_that_never_begins(vendors: Dialect) -> None:
    """Silence before the answer is the same, and is not waited for twice."""
    with vendor() as server:
        server.answers.append(server.wait_for_leave)
        tokens, error = failure(ask(vendors, server, replace(RETRYING, timeout=0.2)))

        assert (tokens, error.reason) == ([], "timeout")
        assert server.left.wait(WAIT)
    assert len(server.requests) == 1


def test_signs_of_life_are_no_answer(vendors: Dialect) -> None:
    """A provider that only shows that it is there is waited for so long and no longer."""
    ended = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.head()
        try:
            while True:
                exchange.chunk(vendors.sign_of_life)
                exchange.connection.settimeout(0.02)
                try:
                    if not exchange.connection.recv(1):
                        return
                except TimeoutError:
                    pass
        finally:
            ended.set()

    with vendor(answer) as server:
        tokens, error = failure(ask(vendors, server, replace(BOUNDS, max_seconds=0.1)))
        assert (tokens, error.reason) == ([], "timeout")
        assert ended.wait(WAIT)


def test_more_than_an_answer(vendors: Dialect) -> None:
    """What has no end is not kept in memory until there is none left."""
    with vendor(chunks(*vendors.opening, b"data: " + b"x" * 70_000, b"x" * 70_000)) as server:
        _, error = failure(ask(vendors, server, replace(BOUNDS, max_answer_bytes=100_000)))

    assert (error.reason, error.message) == (
        "upstream",
        "The provider has sent more than this server takes for one answer.",
    )


def test_a_server_that_is_not_there(vendors: Dialect) -> None:
    """Nobody listens: tried again, and then said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with capture_logs() as log:
        _, error = failure(vendors.provider(url, replace(BOUNDS, retries=1)).generate(PROMPT))

    assert (error.reason, error.message) == ("upstream", "The provider cannot be reached.")
    assert "refused" in log[0]["error"]


class TestRetries:
    """The same request again, while nothing has come of its answer."""

    @pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "408 Request Timeout"])
    def test_after_what_may_pass(self, vendors: Dialect, status: str) -> None:
        """A failure that may pass is waited out, for as long as the provider says."""
        failing = refused(status, {}, Retry_After="0")
        with vendor(failing, failing, chunks(*vendors.whole("Because."))) as server:
            tokens, _ = read(ask(vendors, server, RETRYING))

        assert tokens == ["Because."]
        assert len(server.requests) == 3

    def test_only_so_often(self, vendors: Dialect) -> None:
        """After the last attempt its failure counts."""
        with vendor(refused("500 Internal Server Error", {}, Retry_After="0")) as server:
            _, error = failure(ask(vendors, server, RETRYING))

        assert error.members["status"] == 500
        assert len(server.requests) == 3

    @pytest.mark.parametrize(
        "answer",
        [
            refused("401 Unauthorized", {}, Retry_After="0"),
            refused("400 Bad Request", {}, Retry_After="0"),
            refused("429 Too Many Requests", {}, Retry_After="0", X_Should_Retry="false"),
            silent,
        ],
    )
    def test_not_after_what_stays(self, vendors: Dialect, answer: Answer) -> None:
        """What is refused stays refused, and what may have been worked on is not paid for twice."""
        with vendor(answer) as server:
            failure(ask(vendors, server, RETRYING))

        assert len(server.requests) == 1


class TestAbort:
    """Somebody else wants it to end, at once."""

    def check(self, server: Vendor, reading: Reading, *tokens: str) -> None:
        reading.generation.abort()
        # The bound that would end it otherwise is as long as the test waits.
        assert server.left.wait(WAIT / 2)
        found, error = reading.join()
        assert found == list(tokens)
        assert isinstance(error, StoppedError)

    def test_in_the_middle_of_an_answer(self, vendors: Dialect) -> None:
        """A read that would block for minutes ends, and the provider sees the connection close."""
        with vendor() as server:
            asked = threading.Event()

            def answer(exchange: Exchange) -> None:
                exchange.head()
                for event in vendors.begun("Becau"):
                    exchange.chunk(event)
                asked.set()
                server.wait_for_leave(exchange)

            server.answers.append(answer)
            generation = ask(vendors, server)
            tokens = generation.tokens()
            assert next(tokens) == "Becau"
            assert asked.wait(WAIT)
            reading = Reading(Rest(generation, lambda: tokens))
            self.check(server, reading)

    def test_before_the_answer(self, vendors: Dialect) -> None:
        """It ends while the provider has not even begun to answer."""
        with vendor() as server:
            asked = threading.Event()

            def answer(exchange: Exchange) -> None:
                asked.set()
                server.wait_for_leave(exchange)

            server.answers.append(answer)
            reading = Reading(ask(vendors, server))
            assert asked.wait(WAIT)
            self.check(server, reading)

    def test_in_the_handshake(self, vendors: Dialect) -> None:
        """It ends while a server that should speak TLS says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            reading = Reading(vendors.provider(url, BOUNDS).generate(PROMPT))
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(WAIT / 2)
                # The client's hello: it waits for ours.
                assert connection.recv(65536)
                reading.generation.abort()
                while connection.recv(65536):
                    pass
        assert isinstance(reading.join()[1], StoppedError)

    def test_over_tls(self, vendors: Dialect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It ends in the middle of an answer that comes encrypted, from a server whose certificate was checked."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusted_certificates.cache_clear()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        try:
            with vendor(tls=tls) as server:
                server.answers.append(server.stall(*vendors.begun("Becau")))
                generation = ask(vendors, server)
                tokens = generation.tokens()
                assert next(tokens) == "Becau"
                self.check(server, Reading(Rest(generation, lambda: tokens)))
        finally:
            trusted_certificates.cache_clear()

    def test_between_two_attempts(self, vendors: Dialect) -> None:
        """It ends while it waits to ask again, and does not ask again."""
        refusing = refused("429 Too Many Requests", {}, Retry_After="10")
        waiting = threading.Event()

        def answer(exchange: Exchange) -> None:
            refusing(exchange)
            # The client closes the connection before it begins to wait.
            exchange.connection.recv(1)
            waiting.set()

        with vendor(answer) as server:
            reading = Reading(ask(vendors, server, RETRYING))
            assert waiting.wait(WAIT / 2)
            reading.generation.abort()
            assert isinstance(reading.join()[1], StoppedError)
        assert len(server.requests) == 1

    def test_before_it_begins(self, vendors: Dialect) -> None:
        """What is aborted before it begins asks nobody."""
        with vendor(silent) as server:
            generation = ask(vendors, server)
            generation.abort()
            generation.abort()
            tokens, error = read(generation)

        assert (tokens, type(error), server.requests) == ([], StoppedError, [])

    def test_after_its_end(self, vendors: Dialect) -> None:
        """An abort that comes too late does nothing."""
        with vendor(chunks(*vendors.whole("Because."))) as server:
            generation = ask(vendors, server)
            tokens, _ = read(generation)
            generation.abort()

        assert tokens == ["Because."]


class Rest:
    """What is left of a generation of which something was read."""

    def __init__(self, generation: Generation, tokens: Callable[[], Any]) -> None:
        self.tokens = tokens
        self.abort = generation.abort


def test_closing_it_closes_the_connection(vendors: Dialect) -> None:
    """A generator that is closed early leaves nothing open."""
    with vendor() as server:
        server.answers.append(server.stall(*vendors.begun("Becau")))
        tokens = ask(vendors, server).tokens()
        assert next(tokens) == "Becau"
        assert not server.left.is_set()
        tokens.close()
        assert server.left.wait(WAIT)
