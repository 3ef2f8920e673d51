"""Closed by default: where a service listens that asks nobody who they are."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from sse_kit.cli import main
from sse_kit.identities import AnonymousError, check_bind
from sse_kit.settings import Settings
from tests.service.keys import SECRET

HERE = ["127.0.0.1:8000", "localhost:0", "[::1]:8000", "127.9.9.9:1", "unix:/run/s", "unix:/run/s,127.0.0.1:8000"]
ELSEWHERE = [
    "0.0.0.0:8000",
    ":8000",
    "[::]:8000",
    "10.0.0.1:80",
    "example.com:80",
    "0.0.0.0",
    "fd://3",
    "unix:/s,0.0.0.0:1",
    "::1",
]


@pytest.mark.parametrize("bind", HERE)
def test_this_machine(bind: str) -> None:
    """On a loopback address or a unix socket a service may ask nobody: who reaches it is on this machine."""
    check_bind(Settings(bind=bind))


@pytest.mark.parametrize("bind", ELSEWHERE)
def test_elsewhere(bind: str) -> None:
    """An address that others may reach, or of which that is not known, is refused with what to do; a token, a key, or the word
    anonymous opens it."""
    with pytest.raises(AnonymousError, match="SSE_KIT_ANONYMOUS=true"):
        check_bind(Settings(bind=bind))
    opened: list[dict[str, Any]] = [
        {"tokens": {"ann": SECRET}},
        {"jwt_keys": {"k": SECRET}, "jwt_algorithms": ["HS256"]},
        {"anonymous": True},
    ]
    for settings in opened:
        check_bind(Settings(bind=bind, **settings))


def test_the_command_says_so() -> None:
    """`sse-kit serve` on such an address ends as wrong usage, before it listens, and says what to set."""
    result = CliRunner().invoke(main, ["serve", "--bind", "0.0.0.0:0"])

    assert result.exit_code == 2
    assert "SSE_KIT_TOKENS" in result.output
    assert "authorization.md" in result.output
