"""Rules about what pods may do, and that no secret is among the manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from scripts.check_kubernetes import Object
from tests.k8s.manifests import WORKLOADS, called, each_container, of_kind, pod_of
from tests.k8s.rules.registry import rule


@rule
def pods_have_no_rights(objects: list[Object]) -> Iterator[str]:
    """Not root, no way to become it, no capability, a read-only root, the runtime's seccomp profile, no token."""
    for workload in of_kind(objects, *WORKLOADS):
        pod = pod_of(workload)
        security = pod.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield f"{called(workload)} may run as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{called(workload)} may use every system call"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{called(workload)} gets a token of Kubernetes"
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield f"{called(workload)} sees files of its node"
    for account in of_kind(objects, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{called(account)} gives its pods a token of Kubernetes"
    for name, _, container in each_container(objects):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{name} may become root"
        if security.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may change its own programs"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} has capabilities"


@rule
def pods_are_alone_on_their_network(objects: list[Object]) -> Iterator[str]:
    """No pod has the network, the processes or the memory of its node."""
    for workload in of_kind(objects, *WORKLOADS):
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod_of(workload).get(key):
                yield f"{called(workload)} has {key}"


@rule
def no_secret_is_in_a_manifest(objects: list[Object]) -> Iterator[str]:
    """There is no Secret, no variable with a password, and no URL with one."""
    for secret in of_kind(objects, "Secret"):
        yield f"{called(secret)} is in the manifests"
    for name, _, container in each_container(objects):
        for variable in container.get("env", []):
            if "value" in variable and re.search(r"PASS|TOKEN|SECRET|AUTH|_KEY|BACKPLANE", variable["name"]):
                yield f"{name} has {variable['name']} in clear"
    for each in objects:
        # A URL that has a user; in a shell's variable there is no secret.
        if re.search(r"\w+://[^\s\"/@$]*:[^\s\"/@$]+@", json.dumps(each)):
            yield f"{called(each)} has a URL with a password"
        for key in each.get("data", {}) if each["kind"] == "ConfigMap" else ():
            if re.search(r"PASS|TOKEN|SECRET|_KEY$|BACKPLANE", key):
                yield f"{called(each)} has {key}"


@rule
def images_are_pinned(objects: list[Object]) -> Iterator[str]:
    """An image has a registry, and a digest or a tag that says a version."""
    for name, _, container in each_container(objects):
        image = container["image"]
        if not re.fullmatch(r"[\w.-]+\.?[\w.-]*(:\d+)?/[\w./-]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)", image):
            yield f"{name} has the image {image}"


@rule
def nobody_is_anonymous(objects: list[Object]) -> Iterator[str]:
    """A pod of the service does not start without a Secret that says who may ask, and no setting lets everybody."""
    for name, _, container in each_container(objects):
        if container["name"] != "service":
            continue
        wanted = {each["name"]: each.get("valueFrom", {}).get("secretKeyRef", {}) for each in container.get("env", [])}
        tokens = wanted.get("SSE_KIT_TOKENS", {})
        if not tokens or tokens.get("optional"):
            yield f"{name} starts without tokens"
        if "SSE_KIT_ANONYMOUS" in wanted:
            yield f"{name} says itself who may ask without a token"
    for config in of_kind(objects, "ConfigMap"):
        if "SSE_KIT_ANONYMOUS" in config.get("data", {}):
            yield f"{called(config)} says who may ask without a token"
