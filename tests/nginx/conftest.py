from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nginx.upstream import Upstream
from tests.nginx_server import Nginx, short_folder


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
def nginx(upstream: Upstream) -> Iterator[Nginx]:
    """nginx in front of the fake gunicorn."""
    with Nginx(upstream.address) as nginx:
        yield nginx


@pytest.fixture
def alone(folder: Path) -> Iterator[Nginx]:
    """nginx in front of a gunicorn that is not there."""
    with Nginx(f"unix:{folder}/nobody") as nginx:
        yield nginx
