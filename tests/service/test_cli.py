from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from sse_core.ids import parse_id
from tests.servers import COMMAND, TIMEOUT, Server, running_service


@contextmanager
def listening(server: Server, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `sse-kit listen` and be sure that it listens."""
    before = streams(server)
    process = subprocess.Popen(
        [*COMMAND, "listen", *arguments, "--url", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until_stream(server, before)
        yield process
    finally:
        process.kill()
        process.communicate()


def streams(server: Server) -> int:
    """How many streams were ever taken."""
    text = server.request("GET", "/metrics").body.decode()
    return next(
        int(float(line.split()[1])) for line in text.splitlines() if line.startswith("sse_kit_streams_adopted_total")
    )


def wait_until_stream(server: Server, before: int) -> None:
    """Wait for one more stream: counters come each second as events of a stream, which here is not to be counted."""
    with server.reader("/events?topic=server/stats") as reader:
        for event in reader:
            if json.loads(event.data or "").get("streams_adopted", 0) >= before + 2:
                return


def lines(pipe: IO[str] | None, count: int) -> list[str]:
    assert pipe is not None
    return [pipe.readline().rstrip("\n") for _ in range(count)]


def test_publish_and_listen(server: Server) -> None:
    """What is published on one terminal is printed on another, at once."""
    with listening(server, "cli") as listener:
        published = server.run("publish", "cli", "hello", "--event", "greeting", "--retry", "1000")
        second = server.run("publish", "cli", "two\nlines", "-q")
        assert lines(listener.stdout, 3) == ["greeting: hello", "two", "lines"]

    assert (published.returncode, published.stderr) == (0, "")
    assert parse_id(published.stdout.strip()) is not None
    assert (second.returncode, second.stdout) == (0, "")


def test_json_lines(server: Server) -> None:
    """Events go in and come out as lines of JSON, of several topics in one order."""
    body = '{"data": {"x": 1}}\n{"topic": "cli-b", "data": "two", "event": "e"}\n'
    with listening(server, "cli-a", "cli-b", "--json", "--max", "2") as listener:
        published = server.run("publish", "cli-a", "--json", input=body)
        events = [json.loads(line) for line in lines(listener.stdout, 2)]
        assert listener.wait(TIMEOUT) == 0

    assert [(event["event"], event["data"]) for event in events] == [("message", '{"x":1}'), ("e", "two")]
    assert published.stdout.split() == [event["id"] for event in events]


def test_lines_of_standard_input(server: Server) -> None:
    """Each line of standard input becomes an event when it comes, not when the input ends."""
    with (
        listening(server, "cli-stdin") as listener,
        subprocess.Popen(
            [*COMMAND, "publish", "cli-stdin", "--url", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as publisher,
    ):
        assert publisher.stdin is not None
        for line in ("one", "two"):
            print(line, file=publisher.stdin, flush=True)
            assert lines(listener.stdout, 1) == [line]
        publisher.stdin.close()
        assert publisher.wait(TIMEOUT) == 0
        assert publisher.stdout is not None
        assert len(publisher.stdout.read().split()) == 2


def test_history(server: Server) -> None:
    """A listener may ask for all that is left."""
    server.run("publish", "cli-history", input="1\n2\n3\n")

    listened = server.run("listen", "cli-history", "--last-event-id", "0-0", "--max", "3")

    assert (listened.returncode, listened.stdout) == (0, "1\n2\n3\n")


def test_idempotency(server: Server) -> None:
    """The same key again says so, and publishes nothing."""
    first, second = (server.run("publish", "cli-key", "x", "--id", "my-key") for _ in range(2))

    assert second.stdout == f"{first.stdout.strip()} duplicate\n"


def test_refusals(server: Server) -> None:
    """What the server refuses ends with 1 and its reason, with the line of the input."""
    topic = server.run("publish", " bad", "x")
    reserved = server.run("publish", "log/nginx", input="x\n")
    event = server.run("publish", "--json", input='{"topic":"cli","data":1}\n\n{"topic":"cli","data":1,"retry":"x"}\n')
    log = server.run("listen", "log/nothing")

    assert [each.returncode for each in (topic, reserved, event, log)] == [1, 1, 1, 1]
    assert (
        topic.stderr
        == "sse-kit: the server answered 422: a topic's name must not begin or end with white space: ' bad'\n"
    )
    assert reserved.stderr == "sse-kit: line 1: the server answered 403: Only the server publishes 'log/nginx'.\n"
    assert event.stderr.startswith("sse-kit: line 3: the server answered 422: ")
    assert log.stderr == "sse-kit: the server answered 404: No log named 'nothing' is shown here.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish"],
        ["publish", "a", "--id", "k"],
        ["publish", "a", "x", "--json"],
        ["publish", "a", "x", "--retry", "-1"],
        ["publish", "a", "x", "--url", "localhost"],
        ["listen"],
        ["listen", "a", "--max", "0"],
        ["listen", "a", "--last-event-id", "1-0\r\nX: y"],
        ["serve", "--workers", "2"],
        ["serve", "--log", "nginx"],
        ["serve", "--log", "a/b=/x"],
        ["serve", "--cors-origin", "*"],
        ["serve", "--threads", "0"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Wrong usage ends with 2 and says what is wrong, before anything is done."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT, input="")

    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[b"publish", b"a", b"\xff"], [b"publish", b"\xff", b"x"], [b"listen", b"\xff"]])
def test_arguments_that_are_no_text(server: Server, arguments: list[bytes]) -> None:
    """An argument that is no UTF-8 is refused instead of being sent as something else."""
    command = [*(part.encode() for part in COMMAND), *arguments, b"--url", server.url.encode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert (done.returncode, done.stderr) == (2, "sse-kit: an argument is not valid text\n")


def test_more_workers() -> None:
    """Several workers are refused with the reason."""
    done = subprocess.run([*COMMAND, "serve", "--workers", "2"], capture_output=True, text=True, timeout=TIMEOUT)

    assert "ids and history live in one process's memory" in " ".join(done.stderr.split())


def test_no_server() -> None:
    """Without a server publishing gives up after its patience, with 3."""
    command = [*COMMAND, "publish", "a", "x", "--url", "unix:/nonexistent/socket", "--patience", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert done.returncode == 3
    assert done.stderr.startswith("sse-kit: gave up after 1 attempts: ")


@pytest.mark.parametrize("command", [["listen", "cli-interrupt"], ["publish", "cli-interrupt"]])
def test_interrupt(server: Server, command: list[str]) -> None:
    """Ctrl-C ends with 130 and no word."""
    before = streams(server)
    with subprocess.Popen(
        [*COMMAND, *command, "--url", server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if command[0] == "listen":
            wait_until_stream(server, before)
        else:
            assert process.stdin is not None
            print("one", file=process.stdin, flush=True)
            lines(process.stdout, 1)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            # Or the end of the block waited for it without an end.
            process.kill()

    assert (process.returncode, errors) == (130, "")


def test_token() -> None:
    """A server that wants to know who asks is told by a token, from an option or the environment."""
    token, topic = "cli-0123456789abcdef", "cli-token"
    with running_service(tokens={"cli": token}) as server:
        refused = [server.run("publish", topic, "x"), server.run("listen", topic, env={"SSE_KIT_TOKEN": token + "0"})]
        published = server.run("publish", topic, "hello", "--token", token)
        arguments = ["--last-event-id", "0-0", "--max", "1"]
        listened = server.run("listen", topic, *arguments, env={"SSE_KIT_TOKEN": token})

    assert [each.returncode for each in refused] == [1, 1]
    assert "the server answered 401: Send Authorization: Bearer TOKEN" in refused[0].stderr
    assert refused[1].stderr == "sse-kit: the server answered 401: The token is not known here.\n"
    assert (published.returncode, listened.stdout) == (0, "hello\n")


def test_a_token_that_cannot_be_sent() -> None:
    """What is no token is refused before anything is sent, and not repeated: others may read what is printed."""
    command = [*COMMAND, "publish", "a", "x", "--token", "a secret\r\nX: y"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert done.returncode == 2
    assert "secret" not in done.stderr


def test_an_environment_that_is_no_json() -> None:
    """A mapping in the environment that cannot be read is wrong usage, named without its value."""
    environment = {"SSE_KIT_TOKENS": '{"ann": "secret'}
    done = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, timeout=TIMEOUT, env=environment)

    assert done.returncode == 2
    assert '"tokens"' in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_reader_that_leaves(server: Server) -> None:
    """Who has read enough, as `head` has, ends the listener without a word."""
    server.publish("cli-pipe", "1")
    with listening(server, "cli-pipe", "--last-event-id", "0-0") as listener:
        assert listener.stdout is not None
        assert listener.stderr is not None
        lines(listener.stdout, 1)
        listener.stdout.close()
        server.publish("cli-pipe", "2")
        assert listener.stderr.read() == ""
        assert listener.wait(TIMEOUT) == 0


def test_terminal_is_protected(server: Server) -> None:
    """On a terminal control characters are made visible; a pipe gets the data as it is."""
    server.publish("cli-control", "\x1b[31mred\x9b\ttab")
    command = [*COMMAND, "listen", "cli-control", "--last-event-id", "0-0", "--max", "1", "--url", server.url]
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, timeout=TIMEOUT, check=True)
    os.close(theirs)
    shown = os.read(ours, 1000)
    os.close(ours)
    piped = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True).stdout

    assert shown.rstrip() == rb"\x1b[31mred\x9b" + b"\ttab"
    assert piped == "\x1b[31mred\x9b\ttab\n".encode()


def test_server_restart() -> None:
    """Publisher and listener outlive a restart of the server: the listener is told the gap and gets what follows."""
    with (
        running_service(retry=50, drain_retry=[50, 60], drain_seconds=0.1) as server,
        listening(server, "a", "--json") as listener,
        subprocess.Popen(
            [*COMMAND, "publish", "a", "--url", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as publisher,
    ):
        assert publisher.stdin is not None
        print("before", file=publisher.stdin, flush=True)
        (before,) = lines(publisher.stdout, 1)
        assert json.loads(lines(listener.stdout, 1)[0])["data"] == "before"
        server.stop()
        print("meanwhile", file=publisher.stdin, flush=True)
        server.start()
        seen = [json.loads(line) for line in lines(listener.stdout, 2)]
        publisher.stdin.close()
        assert publisher.wait(TIMEOUT) == 0
        assert publisher.stdout is not None
        (after,) = publisher.stdout.read().split()
        listener.send_signal(signal.SIGINT)
        _, errors = listener.communicate(timeout=TIMEOUT)

    kinds = {event["event"]: event for event in seen}
    assert json.loads(kinds["gap"]["data"])["reason"] == "restart"
    assert kinds["message"]["data"] == "meanwhile"
    assert kinds["message"]["id"] == after
    assert "the server closed the stream; again in " in errors
    assert before != after


def test_version() -> None:
    """The command knows its version."""
    done = subprocess.run(
        [sys.executable, "-m", "sse_kit", "--version"], capture_output=True, text=True, timeout=TIMEOUT
    )

    assert done.stdout.startswith("sse-kit, version ")
