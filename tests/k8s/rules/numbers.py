"""Rules about numbers of manifests that must agree with each other and with what is in the pods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from scripts.check_kubernetes import Object
from sse_kit.settings import Settings
from tests.k8s.manifests import called, containers, find, of_kind, pod_of
from tests.k8s.rules.registry import rule

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}

#: Measured, rounded up: docs/decisions/0010-nginx-beside-the-service.md. Bytes.
NGINX_STREAM, NGINX_WORKER = 24_000, 16 << 20
SERVICE_STREAM, SERVICE_BASE = 4_000, 64 << 20

#: Margin of a pod's end, for what starts and stops its containers. Seconds.
MARGIN_SECONDS = 5


def size(text: str) -> int:
    """Bytes of a quantity."""
    match = re.fullmatch(r"(\d+)([A-Za-z]{2})", text)
    assert match is not None, text
    return int(match[1]) * UNITS[match[2]]


def settings_of(objects: list[Object]) -> Settings:
    """The settings that the pods' ConfigMap gives the service. Raises ValidationError for a name or value that is none."""
    data = find(objects, "ConfigMap", "sse-kit")["data"]
    given = {key.removeprefix("SSE_KIT_").lower(): value for key, value in data.items()}
    # As in the environment: lists and mappings are JSON.
    return Settings(**{key: json.loads(value) if value[:1] in "[{" else value for key, value in given.items()})


def directive(objects: list[Object], config: str, file: str, name: str) -> str:
    """The one value of a directive of nginx or of Redis in a ConfigMap's file."""
    (found,) = re.findall(rf"^\s*{name} +([^;\n]+)", find(objects, "ConfigMap", config)["data"][file], re.MULTILINE)
    return str(found)


@rule
def a_pod_has_time_to_end(objects: list[Object]) -> Iterator[str]:
    """The grace period outlasts the pause, then the service's own time, then nginx's, and the drain fits in the service's."""
    settings = settings_of(objects)
    workload = find(objects, "Deployment", "sse-kit")
    pod = pod_of(workload)
    (service,) = (each for each in pod["containers"] if each["name"] == "service")
    pause = service.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pause < 1:
        yield f"{called(workload)} ends before gateways have heard of it"
    shutdown = int(directive(objects, "nginx", "nginx.conf", "worker_shutdown_timeout").removesuffix("s"))
    needed = pause + settings.graceful_timeout + shutdown + MARGIN_SECONDS
    if pod["terminationGracePeriodSeconds"] < needed:
        yield f"{called(workload)} needs {needed} s to end, and has {pod['terminationGracePeriodSeconds']}"
    if settings.graceful_timeout <= settings.drain_seconds + 2 + MARGIN_SECONDS:
        yield "the service's graceful_timeout has no room for its drain"
    if shutdown <= settings.drain_seconds:
        yield "nginx gives its streams up before the service has told them when to come back"


@rule
def nginx_outlives_the_service(objects: list[Object]) -> Iterator[str]:
    """nginx is a sidecar in Kubernetes' sense, so it starts first and ends last."""
    workload = find(objects, "Deployment", "sse-kit")
    sidecars = [
        each["name"] for each in pod_of(workload).get("initContainers", []) if each.get("restartPolicy") == "Always"
    ]
    if sidecars[:1] != ["nginx"]:
        yield f"{called(workload)} has nginx end when the service does"


@rule
def a_stream_finds_room_at_every_hop(objects: list[Object]) -> Iterator[str]:
    """nginx has connections for all streams that the service takes, and a pod for those of another one that goes."""
    settings = settings_of(objects)
    workers = int(directive(objects, "nginx-site", "process.conf", "worker_processes"))
    config = find(objects, "ConfigMap", "nginx-site")["data"]
    events = config.get("connections.conf", find(objects, "ConfigMap", "nginx")["data"]["nginx.conf"])
    (connections,) = re.findall(r"^\s*worker_connections +(\d+);", events, re.MULTILINE)
    if settings.max_streams > workers * int(connections) // 2:
        yield f"nginx has connections for {workers * int(connections) // 2} streams, the service for {settings.max_streams}"
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods" and 2 * int(metric["pods"]["target"]["averageValue"]) > settings.max_streams:
                yield f"{called(scaler)} fills pods beyond half: when one of two goes, the other has no room"
        if scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] < 600:
            yield f"{called(scaler)} sends streams away for a short quiet"


@rule
def a_full_pod_fits_into_its_memory(objects: list[Object]) -> Iterator[str]:
    """All streams that a pod takes, and all that the service may hold for them, are within the limits of memory."""
    settings = settings_of(objects)
    workers = int(directive(objects, "nginx-site", "process.conf", "worker_processes"))
    held = len(settings.namespaces) * (settings.max_history_bytes + settings.loops * settings.mailbox_bytes)
    needed = {
        "nginx": workers * NGINX_WORKER + settings.max_streams * NGINX_STREAM,
        "service": SERVICE_BASE
        + settings.max_streams * SERVICE_STREAM
        + held
        + settings.max_producers * settings.ahead_bytes,
    }
    for container in containers(pod_of(find(objects, "Deployment", "sse-kit"))):
        limit = size(container["resources"]["limits"]["memory"])
        if container["name"] in needed and limit < needed[container["name"]]:
            yield f"a full {container['name']} needs {needed[container['name']] >> 20} Mi, and has {limit >> 20}"


@rule
def nginx_has_as_many_workers_as_cores(objects: list[Object]) -> Iterator[str]:
    """Its limit of CPU is one core for each worker."""
    pod = pod_of(find(objects, "Deployment", "sse-kit"))
    (nginx,) = (each for each in containers(pod) if each["name"] == "nginx")
    workers = directive(objects, "nginx-site", "process.conf", "worker_processes")
    if nginx["resources"]["limits"]["cpu"] != workers:
        yield f"nginx has {workers} workers for {nginx['resources']['limits']['cpu']} cores"


@rule
def redis_keeps_what_it_has(objects: list[Object]) -> Iterator[str]:
    """Redis writes its append-only file, evicts nothing, wants a password, and its memory is twice what it may fill."""
    for workload in of_kind(objects, "StatefulSet", "Deployment"):
        if workload["metadata"]["name"] != "redis":
            continue
        if directive(objects, "redis", "redis.conf", "appendonly") != "yes":
            yield "Redis forgets everything with its pod"
        if directive(objects, "redis", "redis.conf", "maxmemory-policy") != "noeviction":
            yield "Redis may evict a clock"
        (container,) = pod_of(workload)["containers"]
        if '--requirepass "$REDISCLI_AUTH"' not in container["command"][-1]:
            yield "Redis asks for no password"
        memory = size(container["resources"]["limits"]["memory"])
        if 2 * size(directive(objects, "redis", "redis.conf", "maxmemory")) > memory:
            yield "a rewrite of Redis' file may need more memory than there is"
