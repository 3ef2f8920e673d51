"""What scripts/kubernetes_secrets.py makes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest

from scripts.check_kubernetes import K8S, VERSIONS, schema_faults
from scripts.kubernetes_secrets import make_secrets
from sse_kit.settings import Settings
from tests.k8s.rules.references import SECRETS

SCRIPT = K8S.parent / "scripts/kubernetes_secrets.py"


def settings(made: dict[str, dict[str, str]]) -> Settings:
    """The service's settings, as it would read them from the environment."""
    data = made["sse-kit"]
    return Settings(backplane=data["SSE_KIT_BACKPLANE"], tokens=json.loads(data["SSE_KIT_TOKENS"]))


@pytest.mark.parametrize("cluster", [False, True], ids=["one", "cluster"])
def test_both_sides_have_the_same_password(cluster: bool) -> None:
    """The service takes what it is given, and its URL has the password that Redis asks for."""
    made = make_secrets("redis:6379", "ann", cluster=cluster)
    password = made["redis"]["password"]

    assert settings(made).joins_processes
    assert f":{password}@redis:6379" in settings(made).backplane.get_secret_value()
    assert set(settings(made).tokens) == {"ann"}
    assert set(made) <= SECRETS


def test_no_two_are_alike() -> None:
    """Each call has a password and a token of its own."""
    first, second = (make_secrets("redis:6379", "ann") for _ in range(2))

    assert first["redis"] != second["redis"]
    assert first["sse-kit"]["SSE_KIT_TOKENS"] != second["sse-kit"]["SSE_KIT_TOKENS"]


def test_kubernetes_takes_what_is_printed() -> None:
    """The output is a list of valid Secrets, with values in base64."""
    done = subprocess.run([sys.executable, SCRIPT, "--user", "bob"], capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)

    assert printed["kind"] == "List"
    assert [fault for version in VERSIONS for fault in schema_faults(printed["items"], version)] == []
    (service,) = (each for each in printed["items"] if each["metadata"]["name"] == "sse-kit")
    assert set(json.loads(base64.b64decode(service["data"]["SSE_KIT_TOKENS"]))) == {"bob"}
