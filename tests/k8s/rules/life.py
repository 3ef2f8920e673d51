"""Rules about how pods start, run and use their node."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.check_kubernetes import Object
from tests.k8s.manifests import (
    WORKLOADS,
    called,
    containers,
    each_container,
    labels_of,
    of_kind,
    pod_of,
    ports_of,
    selects,
)
from tests.k8s.rules.registry import rule


@rule
def containers_say_what_they_need(objects: list[Object]) -> Iterator[str]:
    """Requests and limits of CPU and memory; no less memory than requested, so that nothing is killed for a neighbour."""
    for name, _, container in each_container(objects):
        resources = container.get("resources", {})
        for which in ("requests", "limits"):
            if {"cpu", "memory"} - set(resources.get(which, {})):
                yield f"{name} has no {which}"
        if resources.get("requests", {}).get("memory") != resources.get("limits", {}).get("memory"):
            yield f"{name} may have more memory than it has asked for"


@rule
def containers_are_probed(objects: list[Object]) -> Iterator[str]:
    """All but those of Jobs have a startup and a liveness probe, and one of each pod a readiness probe, at ports that exist."""
    for name, workload, container in each_container(objects):
        if workload["kind"] == "Job":
            continue
        for which in ("startupProbe", "livenessProbe"):
            if which not in container:
                yield f"{name} has no {which}"
        for which in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(which, {})
            port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
            ports = ports_of(pod_of(workload))
            # A name is that of a port of the same container; a number may be that of a neighbour.
            if port is not None and (port not in ports or (isinstance(port, str) and ports[port] != container["name"])):
                yield f"{name} is probed at port {port}, which is none of its own"
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        if not any("readinessProbe" in each for each in containers(pod_of(workload))):
            yield f"{called(workload)} is never asked whether it is ready"


@rule
def temporary_files_are_bounded(objects: list[Object]) -> Iterator[str]:
    """No pod fills the disk, or the memory, of its node."""
    for workload in of_kind(objects, *WORKLOADS):
        for volume in pod_of(workload).get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{called(workload)}: {volume['name']} has no bound"


@rule
def pods_are_spread(objects: list[Object]) -> Iterator[str]:
    """A constraint that spreads pods is about the pods that it stands in."""
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        constraints = pod_of(workload).get("topologySpreadConstraints", [])
        for constraint in constraints:
            if not selects(constraint["labelSelector"], labels_of(workload)):
                yield f"{called(workload)} is spread over {constraint['topologyKey']} by the pods of others"
        if workload["spec"].get("replicas", 2) > 1 and not constraints:
            yield f"{called(workload)} may be on one node altogether"
