"""What scripts/check_gateway.py finds in routes of the Gateway API."""

from __future__ import annotations

import copy
import shutil
import sys

import pytest

from scripts.check_kubernetes import K8S, Object
from tests.k8s.manifests import find, overlay

# As the script finds it, which is run by its path.
sys.path.insert(0, str(K8S.parent / "scripts"))
from check_gateway import route_faults

pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None, reason="there is no npm, which fetches the Gateway API's types"
)


def broken(route: Object, part: str, **fields: object) -> Object:
    """A copy with other fields in its spec, or in its one rule."""
    made = copy.deepcopy(route)
    place = made["spec"] if part == "spec" else made["spec"]["rules"][0]
    place.update(fields)
    return made


def test_routes_are_checked_by_types_and_by_values() -> None:
    """Production's route is valid; a field that does not exist and a value that is not allowed are found, each by itself."""
    route = find(overlay("production"), "HTTPRoute", "sse-kit")
    routes = [
        route,
        broken(route, "spec", hostnamez=["x.example"]),
        broken(route, "rule", timeouts={"request": "never"}),
        broken(route, "rule", backendRefs=[{"name": "sse-kit", "port": "http"}]),
        route,
    ]

    valid, misspelt, no_duration, no_number, again = route_faults(routes)

    assert valid == again == []
    assert "hostnamez" in misspelt[0]
    assert "request" in no_duration[0]
    assert "number" in no_number[0]
