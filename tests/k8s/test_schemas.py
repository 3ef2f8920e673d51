"""What scripts/check_kubernetes.py finds: it is part of `make check`, where it has all manifests before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_kubernetes
from scripts.check_kubernetes import VERSIONS, RenderError, kubectl, schema_faults
from tests.k8s.manifests import composed, find, of_kind, overlay, pod_of


@pytest.mark.parametrize("version", VERSIONS)
def test_production_is_valid(version: str) -> None:
    """Kubernetes of each version that is checked has a schema for what it is given, and finds no fault."""
    assert schema_faults(of_kind(overlay("production"), "Deployment", "NetworkPolicy", "Service"), version) == []


def test_a_misspelt_field_is_found() -> None:
    """A field that Kubernetes would ignore is a fault, however deep it is."""
    deployment = find(overlay("production"), "Deployment", "sse-kit")
    pod_of(deployment)["containers"][0]["livenessProb"] = {}

    (fault,) = schema_faults([deployment], "1.37")

    assert fault.startswith("Deployment sse-kit: ")
    assert "livenessProb" in fault


def test_a_wrong_type_is_found() -> None:
    """A number where a text belongs is a fault."""
    deployment = find(overlay("production"), "Deployment", "sse-kit")
    deployment["spec"]["replicas"] = "two"

    assert len(schema_faults([deployment], "1.31")) == 1


def test_an_unknown_kind_is_found() -> None:
    """A kind without a schema is a fault, and not taken on trust as a warning would be."""
    objects = [{"apiVersion": "apps/v1", "kind": "Deplyment", "metadata": {"name": "x"}}]

    assert schema_faults(objects, "1.34") == ["Deplyment x: Kubernetes 1.34 does not know a Deplyment of apps/v1"]


def test_a_kind_of_somebody_else_is_let_pass_by_name() -> None:
    """A route of the Gateway API has no schema in Kubernetes; of another group it is a fault again."""
    route = find(composed("gateway-api"), "HTTPRoute", "sse-kit")

    assert schema_faults([route], "1.37") == []
    assert len(schema_faults([route | {"apiVersion": "example.com/v1"}], "1.37")) == 1


def test_a_version_without_schemas_is_found() -> None:
    """Nothing is checked against an older version in silence."""
    account = find(overlay("production"), "ServiceAccount", "sse-kit")

    (fault,) = schema_faults([account], "1.37.5")

    assert "no schemas of Kubernetes 1.37.5" in fault


def test_kubectl_says_what_it_cannot_render(tmp_path: Path) -> None:
    """A folder that is no kustomization is refused in kubectl's own words."""
    with pytest.raises(RenderError, match="kustomization"):
        kubectl("kustomize", str(tmp_path))


def test_a_kubectl_that_is_too_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubectl from before there were components is refused by its version, before it says something that helps nobody."""
    (tmp_path / "kubectl").write_text("""#!/bin/sh\necho '{"clientVersion": {"gitVersion": "v1.20.2"}}'\n""")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    with pytest.raises(RenderError, match=r"version 1\.20\. Install version 1\.32 or later"):
        kubectl("kustomize", str(tmp_path))


def test_a_machine_without_kubectl_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kubectl the check ends with what to install, and does not pass."""
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SystemExit, match="there is no kubectl"):
        check_kubernetes.main()
