from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from falcon.testing import TestClient

from sse_core import Hub
from sse_kit.logging import configure
from sse_kit.settings import Settings
from tests.application import app_of
from tests.servers import Server, running_service


@pytest.fixture(autouse=True, scope="session")
def surroundings() -> None:
    """Settings are the defaults whatever the environment has; our log goes where pytest sees it."""
    for name in [name for name in os.environ if name.startswith("SSE_KIT_")]:
        del os.environ[name]
    configure(Settings())


@pytest.fixture
def client(hub: Hub) -> TestClient:
    """The application with default settings, called without a server."""
    return TestClient(app_of(hub))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One real service for the tests of a module that leave it as it was."""
    with running_service() as server:
        yield server
