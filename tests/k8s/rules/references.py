"""Rules about what belongs together: it is found."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.check_kubernetes import Object
from tests.k8s.manifests import WORKLOADS, called, containers, of_kind, pod_of, ports_of, selected, selects
from tests.k8s.rules.registry import rule

#: Secrets that users make: docs/deploy/kubernetes.md.
SECRETS = {"redis", "sse-kit", "sse-kit-tls"}


@rule
def workloads_select_their_own_pods(objects: list[Object]) -> Iterator[str]:
    """The selector of a workload is part of its pods' labels, and of no other workload's."""
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        others = [called(each) for each in selected(objects, workload["spec"]["selector"])]
        if others != [called(workload)]:
            yield f"{called(workload)} selects the pods of {others}"


@rule
def services_lead_to_ports(objects: list[Object]) -> Iterator[str]:
    """A Service selects the pods of one workload, which have the ports that it sends to."""
    for service in of_kind(objects, "Service"):
        found = selected(objects, {"matchLabels": service["spec"]["selector"]})
        if len(found) != 1:
            yield f"{called(service)} selects the pods of {[called(each) for each in found]}"
            continue
        for port in service["spec"]["ports"]:
            if port.get("targetPort", port["port"]) not in ports_of(pod_of(found[0])):
                yield f"{called(service)} sends to port {port.get('targetPort')}, which {called(found[0])} lacks"


@rule
def stateful_sets_have_their_service(objects: list[Object]) -> Iterator[str]:
    """The names of a StatefulSet's pods are those of a headless Service that exists."""
    headless = {
        each["metadata"]["name"] for each in of_kind(objects, "Service") if each["spec"].get("clusterIP") == "None"
    }
    for workload in of_kind(objects, "StatefulSet"):
        if workload["spec"]["serviceName"] not in headless:
            yield f"{called(workload)} is of the Service {workload['spec']['serviceName']}, which is none"


@rule
def routes_lead_to_services(objects: list[Object]) -> Iterator[str]:
    """An Ingress and an HTTPRoute send to ports of Services that exist."""
    ports: dict[str, set[str | int]] = {
        each["metadata"]["name"]: {value for port in each["spec"]["ports"] for value in (port["port"], port["name"])}
        for each in of_kind(objects, "Service")
    }
    for ingress in of_kind(objects, "Ingress"):
        for at in ingress["spec"]["rules"]:
            for path in at["http"]["paths"]:
                service = path["backend"]["service"]
                (port,) = service["port"].values()
                if port not in ports.get(service["name"], set()):
                    yield f"{called(ingress)} sends to {service['name']}:{port}"
    for route in of_kind(objects, "HTTPRoute"):
        for at in route["spec"]["rules"]:
            for backend in at["backendRefs"]:
                if backend["port"] not in ports.get(backend["name"], set()):
                    yield f"{called(route)} sends to {backend['name']}:{backend['port']}"


@rule
def monitors_find_services(objects: list[Object]) -> Iterator[str]:
    """A ServiceMonitor selects a Service that has the ports which it asks."""
    for monitor in of_kind(objects, "ServiceMonitor"):
        found = [
            each
            for each in of_kind(objects, "Service")
            if selects(monitor["spec"]["selector"], each["metadata"].get("labels", {}))
        ]
        if not found:
            yield f"{called(monitor)} finds no Service"
        for service in found:
            names = {port["name"] for port in service["spec"]["ports"]}
            for endpoint in monitor["spec"]["endpoints"]:
                if endpoint["port"] not in names:
                    yield f"{called(monitor)} asks port {endpoint['port']}, which {called(service)} lacks"


@rule
def autoscalers_and_budgets_have_a_target(objects: list[Object]) -> Iterator[str]:
    """An autoscaler's target exists, has no replicas of its own, and a budget is of one workload that it lets go on."""
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        found = [each for each in of_kind(objects, target["kind"]) if each["metadata"]["name"] == target["name"]]
        if not found:
            yield f"{called(scaler)} scales {target['name']}, which does not exist"
        for workload in found:
            if "replicas" in workload["spec"]:
                yield f"{called(workload)} has replicas, which {called(scaler)} would have to undo"
            names = {each["name"] for each in containers(pod_of(workload))}
            for metric in scaler["spec"]["metrics"]:
                if metric["type"] == "ContainerResource" and metric["containerResource"]["container"] not in names:
                    yield f"{called(scaler)} measures a container that {called(workload)} lacks"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        if len(selected(objects, budget["spec"]["selector"])) != 1:
            yield f"{called(budget)} is of no workload, or of several"
        if not budget["spec"].get("maxUnavailable"):
            yield f"{called(budget)} lets no pod be evicted"


@rule
def what_is_mounted_exists(objects: list[Object]) -> Iterator[str]:
    """Volumes, ConfigMaps, Secrets and service accounts that a pod names exist, or are Secrets that users make."""
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for workload in of_kind(objects, *WORKLOADS):
        pod = pod_of(workload)
        volumes = {each["name"] for each in pod.get("volumes", [])}
        volumes |= {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])}
        if ("ServiceAccount", pod["serviceAccountName"]) not in names:
            yield f"{called(workload)} is of a service account that does not exist"
        for container in containers(pod):
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{called(workload)} mounts {mount['name']}, which it does not have"
        # Whatever names one does it by one of these keys.
        for key, value in named_references(pod):
            if key in ("configMap", "configMapRef", "configMapKeyRef") and ("ConfigMap", value["name"]) not in names:
                yield f"{called(workload)} wants the ConfigMap {value['name']}, which does not exist"
            if key in ("secretRef", "secretKeyRef") and value["name"] not in SECRETS:
                yield f"{called(workload)} wants the Secret {value['name']}, which nobody makes"
            if key == "secret" and value["secretName"] not in SECRETS:
                yield f"{called(workload)} wants the Secret {value['secretName']}, which nobody makes"


def named_references(value: object) -> Iterator[tuple[str, Object]]:
    """All mappings within a value, with the keys that they are under."""
    if isinstance(value, list):
        for each in value:
            yield from named_references(each)
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, dict):
                yield key, each
            yield from named_references(each)
