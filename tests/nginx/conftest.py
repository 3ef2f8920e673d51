from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from sse_kit.nginxkit.program import Program
from tests.nginx.upstream import Upstream
from tests.nginx_server import Nginx, machine_s_nginx, short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for unix sockets."""
    path = short_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def upstream(folder: Path) -> Iterator[Upstream]:
    with Upstream(folder / "s") as upstream:
        yield upstream


@pytest.fixture
def program() -> Program:
    """The nginx of this machine. Files whose tests are to hold for the newest, too, have a fixture of this name."""
    return machine_s_nginx()


@pytest.fixture
def nginx(upstream: Upstream, program: Program) -> Iterator[Nginx]:
    """nginx in front of the fake gunicorn."""
    with Nginx(upstream.address, program=program) as nginx:
        yield nginx


@pytest.fixture
def alone(folder: Path, program: Program) -> Iterator[Nginx]:
    """nginx in front of a gunicorn that is not there."""
    with Nginx(f"unix:{folder}/nobody", program=program) as nginx:
        yield nginx


class Certificate:
    """A certificate of localhost, and a client's trust in it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        self.files = folder / "cert.pem", folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(self.files[0])
        issued.private_key_pem.write_to_path(self.files[1])
        self.authority = authority.cert_pem.bytes()
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))
