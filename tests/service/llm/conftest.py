from __future__ import annotations

import pytest

from tests.service.llm.vendor import Dialect, dialect


@pytest.fixture(params=["openai", "anthropic"])
def vendors(request: pytest.FixtureRequest) -> Dialect:
    """Each vendor in turn: what holds for one holds for all."""
    return dialect(request.param)
