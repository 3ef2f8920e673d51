"""What importing costs: who embeds the core has neither Flask nor tqdm, and who uses one of them not the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOREIGN = ("flask", "gunicorn", "redis", "tqdm", "werkzeug")


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("sse_core", []),
        ("sse_core.contrib", []),
        ("sse_core.contrib.flask", ["flask", "werkzeug"]),
        ("sse_core.contrib.tqdm", ["tqdm"]),
    ],
)
def test_a_module_imports_the_package_it_is_named_after_and_no_other(module: str, expected: list[str]) -> None:
    """The core imports no package, and an interface of `contrib` the one that it stands for; Redis comes later."""
    program = f"import sys, {module}; print(*sorted({{*sys.modules}} & {set(FOREIGN)}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.split() == expected
