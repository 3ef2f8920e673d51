from __future__ import annotations

import pytest

from tests.packaging.distributions import Distributions


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Built once, since compiling takes its time. To be left as it is."""
    return Distributions(tmp_path_factory.mktemp("distributions"))
