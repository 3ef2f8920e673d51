"""`sse-kit health`, as a container's health check runs it, and the addresses that it asks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sse_kit.client import AddressError
from sse_kit.probe import reachable
from tests.ports import free_port
from tests.servers import COMMAND, TIMEOUT, Server, running_service


def health(*arguments: str, bind: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; ``bind`` is the variable that a container has for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSE_KIT_")}
    if bind is not None:
        environment["SSE_KIT_BIND"] = bind
    return subprocess.run(
        [*COMMAND, "health", *arguments], env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server on loopback that says ``answer`` to the first who asks, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


class TestAnswers:
    """What the command says and how it ends."""

    @pytest.mark.parametrize("option", [(), ("--ready",)])
    def test_well(self, server: Server, option: tuple[str, ...]) -> None:
        """A service that is well is told so by exit code 0 and silence, over the socket that its variable names."""
        done = health(*option, bind=server.url)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_an_option_wins_over_the_variable(self, server: Server) -> None:
        """What is typed is asked, whatever the environment names."""
        done = health("--bind", server.url, bind=f"127.0.0.1:{free_port()}")

        assert done.returncode == 0

    def test_nobody_listens(self) -> None:
        """Where nobody listens it ends with 1 and names the address."""
        address = f"127.0.0.1:{free_port()}"
        done = health(bind=address)

        assert done.returncode == 1
        assert f"no answer from http://{address}" in done.stderr

    def test_no_socket(self, tmp_path: Path) -> None:
        """A unix socket that is not there is told by its path."""
        done = health(bind=f"unix:{tmp_path / 's'}")

        assert done.returncode == 1
        assert f"no answer from unix:{tmp_path / 's'}: [Errno 2]" in done.stderr

    def test_a_worker_that_hangs(self) -> None:
        """A service that takes the connection and says nothing is not well once the timeout is over."""
        with running_service(timeout=600) as server:
            pid = server.worker_pid
            assert health(bind=server.url).returncode == 0
            os.kill(pid, signal.SIGSTOP)
            try:
                done = health("--timeout", "0.5", bind=server.url)
            finally:
                os.kill(pid, signal.SIGCONT)

        assert done.returncode == 1
        assert "timed out" in done.stderr

    def test_not_ready(self) -> None:
        """A service without its backplane is worth keeping and takes no streams, and the reason is told."""
        address = f"redis://127.0.0.1:{free_port()}/0"
        with running_service(backplane=address) as server:
            live, ready = health(bind=server.url), health("--ready", bind=server.url)

        assert live.returncode == 0
        assert ready.returncode == 1
        assert "/readyz of unix:" in ready.stderr
        assert "says 503: The backplane" in ready.stderr

    def test_something_else_listens(self) -> None:
        """An answer that is no HTTP, or an error of somebody else, is not well."""
        with answering(b"SSH-2.0-x\r\n") as address:
            nonsense = health(bind=address)
        with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as address:
            foreign = health(bind=address)

        assert (nonsense.returncode, foreign.returncode) == (1, 1)
        assert "SSH-2.0" in nonsense.stderr
        assert "says 404: Not Found" in foreign.stderr

    def test_an_address_that_is_none(self) -> None:
        """What is no address is wrong usage, not a sick service."""
        done = health(bind="fd://3")

        assert done.returncode == 2
        assert "neither HOST:PORT nor unix:PATH" in done.stderr


class TestAddresses:
    """Where a service is asked that listens on an address."""

    @pytest.mark.parametrize(
        ("bind", "asked"),
        [
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("[fd00::1]:80", "http://[fd00::1]:80"),
            (":9000", "http://127.0.0.1:9000"),
            ("localhost", "http://localhost:8000"),
            ("tcp://10.0.0.1:1", "http://10.0.0.1:1"),
            ("unix:/run/s", "unix:/run/s"),
            ("unix:///run/s", "unix:/run/s"),
            ("unix:/run/s,0.0.0.0:80", "unix:/run/s"),
        ],
    )
    def test_an_address_that_answers(self, bind: str, asked: str) -> None:
        """Each way to say where gunicorn listens leads to an address that can be asked."""
        assert str(reachable(bind)) == asked

    @pytest.mark.parametrize("bind", ["fd://3", "http://x:1", "::1", "x:port", "x:99999", "unix:"])
    def test_no_address(self, bind: str) -> None:
        """Anything else is refused."""
        with pytest.raises(AddressError):
            reachable(bind)
