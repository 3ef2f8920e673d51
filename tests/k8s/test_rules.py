"""Everything in k8s/ keeps the rules, and each rule finds manifests that do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from scripts.check_kubernetes import Object, components, overlays
from tests.k8s.manifests import composed, find, of_kind, overlay, pod_of
from tests.k8s.rules import RULES

#: What podman cannot do: docs/deploy/kubernetes.md.
NOT_LOCAL = {
    "autoscalers_and_budgets_have_a_target",
    "containers_are_probed",
    "everything_is_closed_at_first",
    "nginx_outlives_the_service",
    "pods_are_alone_on_their_network",
    "temporary_files_are_bounded",
}


PLACES: dict[str, Callable[[], list[Object]]] = {
    **{f"overlays/{name}": lambda name=name: overlay(name) for name in overlays()},  # type: ignore[misc]
    **{f"components/{name}": lambda name=name: composed(name) for name in components()},  # type: ignore[misc]
}


@pytest.mark.parametrize("place", PLACES)
def test_manifests_keep_the_rules(place: str) -> None:
    """No rule finds a fault in what can be installed; images are pinned by overlays alone."""
    skipped = NOT_LOCAL if place == "overlays/local" else set()
    if not place.startswith("overlays/"):
        skipped = skipped | {"images_are_pinned"}

    found = {name: rule(PLACES[place]()) for name, rule in RULES.items() if name not in skipped}

    assert {name: faults for name, faults in found.items() if faults} == {}


# -- broken ones -------------------------------------------------------------------------------------------------------------

Break = Callable[[list[Object]], Any]


def service_pod(objects: list[Object]) -> Object:
    return pod_of(find(objects, "Deployment", "sse-kit"))


def nginx(objects: list[Object]) -> Object:
    found: Object = service_pod(objects)["initContainers"][0]
    return found


def service(objects: list[Object]) -> Object:
    found: Object = service_pod(objects)["containers"][0]
    return found


def redis(objects: list[Object]) -> Object:
    found: Object = pod_of(find(objects, "StatefulSet", "redis"))["containers"][0]
    return found


def spec(objects: list[Object], kind: str, name: str = "sse-kit") -> Object:
    found: Object = find(objects, kind, name)["spec"]
    return found


def rewrite(objects: list[Object], config: str, file: str, old: str, new: str) -> None:
    data = find(objects, "ConfigMap", config)["data"]
    assert old in data[file]
    data[file] = data[file].replace(old, new)


def drop(objects: list[Object], kind: str, name: str) -> None:
    objects.remove(find(objects, kind, name))


def setting(objects: list[Object], name: str, value: str) -> None:
    find(objects, "ConfigMap", "sse-kit")["data"][name] = value


APP = "app.kubernetes.io/name"

#: A rule, and what must not pass it; on the base with the components that the rules are about.
BROKEN: list[tuple[str, Break]] = [
    ("workloads_select_their_own_pods", lambda o: spec(o, "Deployment")["selector"]["matchLabels"].update({APP: "x"})),
    ("workloads_select_their_own_pods", lambda o: spec(o, "Deployment")["selector"]["matchLabels"].clear()),
    ("services_lead_to_ports", lambda o: spec(o, "Service")["selector"].update({APP: "redis-cluster-x"})),
    ("services_lead_to_ports", lambda o: spec(o, "Service")["ports"][0].update(targetPort="web")),
    ("stateful_sets_have_their_service", lambda o: spec(o, "StatefulSet", "redis").update(serviceName="redi")),
    ("stateful_sets_have_their_service", lambda o: spec(o, "Service", "redis").pop("clusterIP")),
    ("routes_lead_to_services", lambda o: spec(o, "HTTPRoute")["rules"][0]["backendRefs"][0].update(port=8080)),
    (
        "routes_lead_to_services",
        lambda o: spec(o, "Ingress")["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="x"),
    ),
    (
        "autoscalers_and_budgets_have_a_target",
        lambda o: spec(o, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="x"),
    ),
    ("autoscalers_and_budgets_have_a_target", lambda o: spec(o, "Deployment").update(replicas=3)),
    (
        "autoscalers_and_budgets_have_a_target",
        lambda o: spec(o, "HorizontalPodAutoscaler")["metrics"][1]["containerResource"].update(container="x"),
    ),
    ("autoscalers_and_budgets_have_a_target", lambda o: spec(o, "PodDisruptionBudget").update(maxUnavailable=0)),
    (
        "autoscalers_and_budgets_have_a_target",
        lambda o: spec(o, "PodDisruptionBudget")["selector"]["matchLabels"].update({APP: "x"}),
    ),
    ("what_is_mounted_exists", lambda o: drop(o, "ConfigMap", "nginx-snippets-http")),
    ("what_is_mounted_exists", lambda o: drop(o, "ConfigMap", "nginx-tls")),
    ("what_is_mounted_exists", lambda o: drop(o, "ConfigMap", "sse-kit")),
    ("what_is_mounted_exists", lambda o: drop(o, "ServiceAccount", "redis")),
    ("what_is_mounted_exists", lambda o: service(o)["volumeMounts"][0].update(name="x")),
    ("what_is_mounted_exists", lambda o: redis(o)["env"][1]["valueFrom"]["secretKeyRef"].update(name="x")),
    ("what_is_mounted_exists", lambda o: service_pod(o)["volumes"][-1]["secret"].update(secretName="x")),
    ("pods_have_no_rights", lambda o: service_pod(o)["securityContext"].pop("runAsNonRoot")),
    ("pods_have_no_rights", lambda o: service_pod(o)["securityContext"].update(runAsUser=0)),
    ("pods_have_no_rights", lambda o: service_pod(o)["securityContext"].pop("seccompProfile")),
    ("pods_have_no_rights", lambda o: service_pod(o).pop("automountServiceAccountToken")),
    ("pods_have_no_rights", lambda o: find(o, "ServiceAccount", "sse-kit").pop("automountServiceAccountToken")),
    ("pods_have_no_rights", lambda o: service_pod(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("pods_have_no_rights", lambda o: nginx(o)["securityContext"].pop("readOnlyRootFilesystem")),
    ("pods_have_no_rights", lambda o: nginx(o)["securityContext"].pop("allowPrivilegeEscalation")),
    ("pods_have_no_rights", lambda o: redis(o)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
    ("pods_are_alone_on_their_network", lambda o: service_pod(o).update(hostNetwork=True)),
    ("no_secret_is_in_a_manifest", lambda o: o.append({"kind": "Secret", "metadata": {"name": "x"}})),
    ("no_secret_is_in_a_manifest", lambda o: service(o)["env"].append({"name": "SSE_KIT_TOKENS", "value": "{}"})),
    ("no_secret_is_in_a_manifest", lambda o: setting(o, "SSE_KIT_BACKPLANE", "redis://redis")),
    ("no_secret_is_in_a_manifest", lambda o: setting(o, "SSE_KIT_WATCH_URL", "redis://:geheim@redis:6379/0")),
    ("nobody_is_anonymous", lambda o: service(o)["env"].pop()),
    ("nobody_is_anonymous", lambda o: service(o)["env"][1]["valueFrom"]["secretKeyRef"].update(optional=True)),
    ("nobody_is_anonymous", lambda o: setting(o, "SSE_KIT_ANONYMOUS", "true")),
    ("monitors_find_services", lambda o: spec(o, "ServiceMonitor")["selector"]["matchLabels"].update({APP: "x"})),
    ("monitors_find_services", lambda o: spec(o, "ServiceMonitor")["endpoints"][0].update(port="http")),
    ("images_are_pinned", lambda o: nginx(o).update(image="docker.io/library/nginx")),
    ("images_are_pinned", lambda o: nginx(o).update(image="docker.io/library/nginx:latest")),
    ("images_are_pinned", lambda o: nginx(o).update(image="nginx:1.31.3")),
    ("containers_say_what_they_need", lambda o: nginx(o)["resources"]["limits"].pop("memory")),
    ("containers_say_what_they_need", lambda o: nginx(o)["resources"]["requests"].pop("cpu")),
    ("containers_say_what_they_need", lambda o: service(o)["resources"]["requests"].update(memory="1Mi")),
    ("containers_are_probed", lambda o: service(o).pop("livenessProbe")),
    ("containers_are_probed", lambda o: service(o).pop("startupProbe")),
    ("containers_are_probed", lambda o: nginx(o).pop("readinessProbe")),
    ("containers_are_probed", lambda o: nginx(o)["livenessProbe"]["httpGet"].update(port="web")),
    ("containers_are_probed", lambda o: service(o)["startupProbe"]["httpGet"].update(port="http")),
    ("containers_are_probed", lambda o: service(o)["startupProbe"]["httpGet"].update(port=8000)),
    ("temporary_files_are_bounded", lambda o: service_pod(o)["volumes"][0]["emptyDir"].pop("sizeLimit")),
    ("pods_are_spread", lambda o: service_pod(o).pop("topologySpreadConstraints")),
    (
        "pods_are_spread",
        lambda o: service_pod(o)["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"].update({APP: "x"}),
    ),
    ("everything_is_closed_at_first", lambda o: drop(o, "NetworkPolicy", "default-deny")),
    (
        "everything_is_closed_at_first",
        lambda o: spec(o, "NetworkPolicy", "default-deny").update(policyTypes=["Ingress"]),
    ),
    ("everything_is_closed_at_first", lambda o: spec(o, "NetworkPolicy", "default-deny").update(ingress=[{}])),
    (
        "policies_name_pods_and_ports_that_exist",
        lambda o: spec(o, "NetworkPolicy")["podSelector"]["matchLabels"].update({APP: "x"}),
    ),
    (
        "policies_name_pods_and_ports_that_exist",
        lambda o: spec(o, "NetworkPolicy")["ingress"][0]["ports"][0].update(port="web"),
    ),
    (
        "policies_name_pods_and_ports_that_exist",
        lambda o: spec(o, "NetworkPolicy")["egress"][0]["ports"][0].update(port=6380),
    ),
    (
        "policies_name_pods_and_ports_that_exist",
        lambda o: spec(o, "NetworkPolicy")["egress"][0]["to"][0]["podSelector"]["matchLabels"].update({APP: "x"}),
    ),
    ("policies_name_pods_and_ports_that_exist", lambda o: spec(o, "NetworkPolicy").update(policyTypes=["Ingress"])),
    ("both_ends_of_a_way_are_open", lambda o: drop(o, "NetworkPolicy", "load-target")),
    (
        "both_ends_of_a_way_are_open",
        lambda o: spec(o, "NetworkPolicy", "redis")["ingress"][0]["ports"][0].update(port="bus"),
    ),
    ("services_are_open_to_somebody", lambda o: spec(o, "NetworkPolicy")["ingress"].pop(0)),
    ("services_are_open_to_somebody", lambda o: drop(o, "NetworkPolicy", "redis")),
    ("a_pod_has_time_to_end", lambda o: service_pod(o).update(terminationGracePeriodSeconds=30)),
    ("a_pod_has_time_to_end", lambda o: service(o).pop("lifecycle")),
    ("a_pod_has_time_to_end", lambda o: setting(o, "SSE_KIT_GRACEFUL_TIMEOUT", "60")),
    ("a_pod_has_time_to_end", lambda o: setting(o, "SSE_KIT_GRACEFUL_TIMEOUT", "10")),
    (
        "a_pod_has_time_to_end",
        lambda o: rewrite(o, "nginx", "nginx.conf", "worker_shutdown_timeout 10s", "worker_shutdown_timeout 5s"),
    ),
    ("nginx_outlives_the_service", lambda o: nginx(o).pop("restartPolicy")),
    (
        "nginx_outlives_the_service",
        lambda o: service_pod(o)["containers"].append(service_pod(o)["initContainers"].pop()),
    ),
    ("a_stream_finds_room_at_every_hop", lambda o: setting(o, "SSE_KIT_MAX_STREAMS", "20000")),
    (
        "a_stream_finds_room_at_every_hop",
        lambda o: rewrite(o, "nginx-site", "process.conf", "worker_processes 2", "worker_processes 1"),
    ),
    (
        "a_stream_finds_room_at_every_hop",
        lambda o: spec(o, "HorizontalPodAutoscaler")["metrics"][0]["pods"]["target"].update(averageValue="9000"),
    ),
    (
        "a_stream_finds_room_at_every_hop",
        lambda o: spec(o, "HorizontalPodAutoscaler")["behavior"]["scaleDown"].update(stabilizationWindowSeconds=60),
    ),
    ("a_full_pod_fits_into_its_memory", lambda o: setting(o, "SSE_KIT_MAX_HISTORY_BYTES", "1000000000")),
    ("a_full_pod_fits_into_its_memory", lambda o: setting(o, "SSE_KIT_NAMESPACES", '["a", "b", "c"]')),
    ("a_full_pod_fits_into_its_memory", lambda o: nginx(o)["resources"]["limits"].update(memory="256Mi")),
    ("nginx_has_as_many_workers_as_cores", lambda o: nginx(o)["resources"]["limits"].update(cpu="4")),
    ("redis_keeps_what_it_has", lambda o: rewrite(o, "redis", "redis.conf", "appendonly yes", "appendonly no")),
    ("redis_keeps_what_it_has", lambda o: rewrite(o, "redis", "redis.conf", "noeviction", "allkeys-lru")),
    ("redis_keeps_what_it_has", lambda o: rewrite(o, "redis", "redis.conf", "maxmemory 512mb", "maxmemory 1gb")),
    ("redis_keeps_what_it_has", lambda o: redis(o).update(command=["redis-server"])),
]


def everything() -> list[Object]:
    """The base with all components that go together, and pinned images."""
    objects = composed("autoscaling", "gateway-api", "ingress-f5", "loadtest", "monitoring", "redis-cluster", "tls")
    for workload in of_kind(objects, "Deployment", "StatefulSet", "Job"):
        for container in [*pod_of(workload).get("initContainers", []), *pod_of(workload)["containers"]]:
            container["image"] = f"registry.example.com/{container['image']}:1.0"
    return objects


@pytest.fixture(scope="module")
def sound() -> list[Object]:
    return everything()


def test_all_components_go_together(sound: list[Object]) -> None:
    """The base with every component but external-redis, which takes Redis away, keeps all rules."""
    assert {name: faults for name, rule in RULES.items() if (faults := rule(copy.deepcopy(sound)))} == {}


@pytest.mark.parametrize(("name", "damage"), BROKEN, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BROKEN)])
def test_a_broken_manifest_is_found(name: str, damage: Break, sound: list[Object]) -> None:
    """What must not be installed does not pass the rule that is about it."""
    objects = copy.deepcopy(sound)
    damage(objects)

    assert RULES[name](objects) != []


def test_every_rule_is_shown_to_find_something() -> None:
    """No rule is without a manifest that it refuses."""
    assert {name for name, _ in BROKEN} == set(RULES)
