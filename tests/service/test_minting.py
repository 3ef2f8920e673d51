from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sse_kit.cli import main
from sse_kit.keys import ALGORITHMS, KeySet, from_text
from sse_kit.webtokens import WebTokens
from tests.service.keys import SECRET, private, private_text, public, token


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["token", *arguments], **options)


def verifier(text: str, *, issuer: str | None = None) -> WebTokens:
    keys = KeySet([from_text("k", text)])
    return WebTokens(
        keys, algorithms=ALGORITHMS, issuer=issuer, audience=("sse-kit",), leeway=0, claim="sse", max_bytes=4096
    )


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_a_minted_token_is_accepted(tmp_path: Path, algorithm: str) -> None:
    """A token of each kind of key is one that the service accepts, and grants what was asked for."""
    file = tmp_path / "key"
    file.write_text(SECRET if algorithm == "HS256" else private_text(private(algorithm)))
    options = ["--subscribe", "a/*", "--publish", "b", "--start", "jobs", "--admin", "--kid", "k", "--seconds", "60"]
    result = run("mint", "ann", "--key-file", str(file), "--issuer", "me", *options)
    assert result.exit_code == 0, result.output
    checked = verifier(SECRET if algorithm == "HS256" else public(private(algorithm)), issuer="me")
    identity = checked.verify(result.output.strip())

    assert identity.subject == "ann"
    assert identity.token_id
    assert identity.grants.may_subscribe("default", "a/b")
    assert identity.grants.may_publish("default", "b")
    assert (identity.grants.may_start("jobs"), identity.grants.may_start("demo")) == (True, False)
    assert (identity.grants.may_administer, identity.grants.may_read_metrics) == (True, False)


def test_of_another_namespace() -> None:
    """Topics of a namespace are granted there, and nowhere else."""
    result = run("mint", "ann", "--namespace", "n", "--subscribe", "a", env={"SSE_KIT_SIGNING_KEY": SECRET})
    grants = verifier(SECRET).verify(result.output.strip()).grants

    assert grants.may_subscribe("n", "a")
    assert not grants.may_subscribe("default", "a")


def test_what_a_token_grants_is_shown() -> None:
    """Header, claims, what is left of its time, and grants are shown as JSON, of an argument or of standard input."""
    made = token(sse={"subscribe": ["a/**"]}, exp=int(time.time()) + 100_000)
    shown = json.loads(run("show", made).output)

    assert (shown["header"]["alg"], shown["claims"]["sub"]) == ("HS256", "ann")
    assert 0 < shown["seconds_left"] <= 100_000
    assert shown["grants"]["subscribe"] == ["a/**"]
    assert json.loads(run("show", "-", input=made + "\n").output)["grants"] == shown["grants"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mint", "ann"], "what to sign with"),
        (["mint", "ann", "--key", "short"], "at least 32 bytes"),
        (["mint", "ann", "--key", SECRET, "--subscribe", "a*"], "no pattern"),
        (["mint", "ann", "--key", "-----BEGIN PRIVATE KEY-----"], "without a password"),
        (["mint", "ann", "--key", SECRET, "--start", "everything"], "everything"),
        (["show", "x"], "no JSON Web Token"),
        (["show", token(sse={"subscribe": "a"})], "an array"),
    ],
)
def test_what_cannot_be(arguments: list[str], reason: str) -> None:
    """What makes no token, and what is none, is told in a line and ends with an error."""
    result = run(*arguments)

    assert result.exit_code in (1, 2)
    assert reason in result.output
    assert SECRET not in result.output
