"""The manifests of k8s/ as Kubernetes would get them: rendered by kubectl, read as objects, each time new ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scripts.check_kubernetes import K8S, Object, composed_text, parse, text_of

#: What kustomize adds to the name of a generated ConfigMap.
HASH = re.compile(r"-[0-9a-z]{10}")

WORKLOADS = ("Deployment", "StatefulSet", "Job")


def overlay(name: str) -> list[Object]:
    """The objects of an overlay."""
    return parse(text_of(K8S / "overlays" / name))


def composed(*components: str) -> list[Object]:
    """The objects of the base with components on it."""
    return parse(composed_text(components))


def find(objects: list[Object], kind: str, name: str) -> Object:
    """The object of that kind whose name is, or before its hash was, ``name``."""
    named = [each for each in objects if each["kind"] == kind]
    found = [
        each
        for each in named
        if each["metadata"]["name"] == name
        or (each["metadata"]["name"].startswith(name) and HASH.fullmatch(each["metadata"]["name"].removeprefix(name)))
    ]
    assert len(found) == 1, (kind, name, [each["metadata"]["name"] for each in named])
    return found[0]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """All objects of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def called(thing: Object) -> str:
    """What a message calls an object."""
    return f"{thing['kind']} {thing['metadata']['name']}"


def pod_of(workload: Object) -> Object:
    """The pod of a workload: its spec."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def labels_of(workload: Object) -> dict[str, str]:
    """The labels of a workload's pods."""
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, sidecars too."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def each_container(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """What to call it, its workload, and the container; of all workloads."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers(pod_of(workload)):
            yield f"{called(workload)}, container {container['name']}", workload, container


def ports_of(pod: Object) -> dict[str | int, str]:
    """The ports of a pod by name and by number, and whose they are."""
    found: dict[str | int, str] = {}
    for container in containers(pod):
        for port in container.get("ports", []):
            found[port["containerPort"]] = container["name"]
            if "name" in port:
                found[port["name"]] = container["name"]
    return found


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether labels match a selector of `matchLabels`, the only form that is used here. An empty one selects all."""
    assert set(selector) <= {"matchLabels"}, selector
    return set(selector.get("matchLabels", {}).items()) <= set(labels.items())


def selected(objects: list[Object], selector: Object) -> list[Object]:
    """The workloads whose pods match."""
    return [each for each in of_kind(objects, *WORKLOADS) if selects(selector, labels_of(each))]
