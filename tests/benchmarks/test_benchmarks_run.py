"""The benchmarks run, and what they report is what happened. Their figures are nobody's business here."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.client import Phase, Rounds, load
from benchmarks.effort import Effort
from benchmarks.harness import BenchmarkError, Server, plain_server
from benchmarks.report import Judgement, Report, Table, as_markdown, judge_least, judge_most

ROOT = Path(__file__).parents[2]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
ONE_PUBLISH = (1, 0.05)  # a second, and for so long
QUICK = Effort(rounds=1, seconds=0.05, quick=True)


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    "arguments", [*([name] for name in NAMES), ["latency", "--tcp"], ["redis_feed", "--tcp"]], ids=" ".join
)
def test_each_benchmark_runs_and_judges_its_bars(arguments: list[str]) -> None:
    """Each benchmark runs to its end in tiny sizes and reports a bar."""
    done = benchmarks(*arguments, "--quick")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +measured +bar$", done.stdout, re.MULTILINE)
    assert re.search(r"(met|MISSED)$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--quick"], ["fanout"]])
def test_the_page_is_of_one_full_run(arguments: list[str]) -> None:
    """`--write` is refused for a part of the benchmarks and for sizes that mean nothing."""
    done = benchmarks(*arguments, "--write")
    assert done.returncode == 2
    assert "full run" in done.stderr


def test_the_plain_server_delivers_each_event_to_each_stream() -> None:
    """In each kind of phase, deliveries are publishes times streams, and an idle one has neither."""
    with plain_server(QUICK) as plain, load(plain, 7, QUICK) as client:
        for kind, parameter in (("flight", 1), ("flight", 5), ("burst", 20), ("rate", 100)):
            phase = client.phase(kind, parameter, 0.05)
            assert phase.publishes > 0
            assert phase.deliveries == 7 * phase.publishes
            assert phase.server_cpu_ns > 0
        idle = client.phase("idle", 0, 0.01)
        assert (idle.publishes, idle.deliveries) == (0, 0)


@contextmanager
def bad_server(
    on_publish: Callable[[socket.socket, socket.socket, bytes], None], head: bytes = HEAD
) -> Iterator[Server]:
    """One stream, then one publish: the callback gets stream, publisher and the publish request."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/server.sock")
        listener.listen()
        # A client that never comes must not hold the thread below.
        listener.settimeout(60)

        def serve() -> None:
            with listener.accept()[0] as stream:
                stream.recv(4096)
                stream.sendall(head)
                # Until the client has gone, in whatever way: it hangs up as soon as something is wrong.
                with listener.accept()[0] as publisher, suppress(ConnectionResetError, BrokenPipeError):
                    on_publish(stream, publisher, publisher.recv(4096))
                    publisher.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Server(f"unix:{folder}/server.sock", (os.getpid(),), ())
        finally:
            thread.join(90)


def payload(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def ends_the_stream(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
    stream.shutdown(socket.SHUT_RDWR)


def refuses(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
    publisher.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def delivers_another(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
    stamp = payload(request)[-30:]
    stream.sendall(b"data: " + stamp.replace(b"#0000000000", b"#0000000007") + b"\n\n")


def does_not_end_the_event(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
    stream.sendall(b"data: " + payload(request) + b"\nid: 1\n\n")


def delivers_twice(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
    stream.sendall(2 * (b"data: " + payload(request) + b"\n\n"))
    publisher.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ends_the_stream, "1 streams ended"),
        (refuses, "HTTP/1.1 503"),
        (delivers_another, "event 7 came unasked"),
        (does_not_end_the_event, "does not end where it should"),
        (delivers_twice, "events came more than once"),
    ],
)
def test_a_phase_that_went_wrong_has_no_figures(
    fault: Callable[[socket.socket, socket.socket, bytes], None], message: str
) -> None:
    """Lost streams, refused publishes and events that were not asked for end the client with the reason."""
    with bad_server(fault) as server, load(server, 1, QUICK) as client, pytest.raises(BenchmarkError, match=message):
        client.phase("rate", *ONE_PUBLISH)


@pytest.mark.parametrize("options", [(), ("--again", "1")])
def test_streams_that_end_while_others_are_opened_may_be_opened_anew(options: tuple[str, ...]) -> None:
    """A stream that ends too early ends the client, unless it may open it anew, and then it says how often it did."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/server.sock")
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            first = listener.accept()[0]
            first.recv(4096)
            first.sendall(HEAD)
            with listener.accept()[0] as second:
                first.close()
                second.recv(4096)
                with suppress(ConnectionResetError, BrokenPipeError):
                    if options:
                        with listener.accept()[0] as third:
                            third.recv(4096)
                            third.sendall(HEAD)
                            second.sendall(HEAD)
                            third.recv(1)
                    second.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        server = Server(f"unix:{folder}/server.sock", (os.getpid(),), options)
        if options:
            with load(server, 2, QUICK, window=1) as client:
                assert client.again == 1
        else:
            with (
                pytest.raises(BenchmarkError, match="ended while others were opened"),
                load(server, 2, QUICK, window=1),
            ):
                pass
        thread.join(60)


def test_each_stream_can_have_fields_of_its_own(tmp_path: Path) -> None:
    """The request of a stream has the header fields of its line beside the usual ones."""
    heads = tmp_path / "heads"
    heads.write_text("X-One: 1|X-Two: 2\nX-One: 3\n")
    requests: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/server.sock")
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            with listener.accept()[0] as first, listener.accept()[0] as second:
                for stream in (first, second):
                    requests.append(stream.recv(4096))
                    stream.sendall(HEAD)
                second.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with load(Server(f"unix:{folder}/server.sock", (os.getpid(),), ()), 2, QUICK, heads=heads):
            pass
        thread.join(60)
    assert [request.split(b"\r\n", 3)[3] for request in requests] == [
        b"X-One: 1\r\nX-Two: 2\r\n\r\n",
        b"X-One: 3\r\n\r\n",
    ]


def test_a_stamp_that_comes_in_pieces_is_one_event() -> None:
    """An event cut anywhere by the transport is counted once."""

    def in_pieces(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
        for byte in b"data: " + payload(request) + b"\n\n":
            stream.sendall(bytes([byte]))
        publisher.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with bad_server(in_pieces) as server, load(server, 1, QUICK) as client:
        assert client.phase("rate", *ONE_PUBLISH).deliveries == 1


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_is_the_same(size: int) -> None:
    """What a proxy cuts into chunks, wherever, is counted as the events that it holds."""

    def in_chunks(stream: socket.socket, publisher: socket.socket, request: bytes) -> None:
        event = b"data: " + payload(request) + b"\n\n"
        for start in range(0, len(event), size):
            chunk = event[start : start + size]
            stream.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        publisher.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    # A chunk that begins with the head and ends after it.
    head = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nid:")
    with bad_server(in_chunks, head + b" \r\n") as server, load(server, 1, QUICK) as client:
        assert client.phase("rate", *ONE_PUBLISH).deliveries == 1


def phase(cpu_us: int) -> Phase:
    return Phase(1, 1, 1.0, cpu_us * 1000, 0, 0.0, 0.0, 0)


def test_the_ratio_is_to_the_two_neighbours() -> None:
    """Each round of ours is divided by the mean of the rounds of the reference before and after it."""
    rounds = Rounds([phase(6), phase(10), phase(100)], [phase(1), phase(3), phase(7), phase(13)])
    assert rounds.ratio(lambda each: each.cpu_us) == 3.0
    assert rounds.median(lambda each: each.cpu_us) == (10.0, 5.0)


def test_the_page_says_what_was_missed() -> None:
    """The generated page has the machine, each bar with its verdict, and the tables."""
    judgements = [judge_most("cost", 1.3, 1.2), judge_least("speed", 11.0, 10), Judgement("x", "1", "at most 2", True)]
    report = Report("How?", "By turns.", judgements, [Table("Figures", [["", "us"], ["a", "1"]])])
    page = as_markdown([report], [("machine", "a toaster")])
    assert "- machine: a toaster\n" in page
    assert "| cost | 1.30 | at most 1.2 | MISSED |\n| speed | 11.0 | above 10 | met |\n" in page
    assert "### Figures\n\n|  | us |\n|---|--:|\n| a | 1 |\n" in page
