"""Rules about who may talk to whom."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.check_kubernetes import Object
from tests.k8s.manifests import called, labels_of, of_kind, pod_of, ports_of, selected, selects
from tests.k8s.rules.registry import rule


@rule
def everything_is_closed_at_first(objects: list[Object]) -> Iterator[str]:
    """One policy denies all pods both directions."""
    closed = [
        each
        for each in of_kind(objects, "NetworkPolicy")
        if each["spec"]["podSelector"] == {}
        and sorted(each["spec"]["policyTypes"]) == ["Egress", "Ingress"]
        and not {"ingress", "egress"} & set(each["spec"])
    ]
    if not closed:
        yield "nothing denies what no policy allows"


@rule
def policies_name_pods_and_ports_that_exist(objects: list[Object]) -> Iterator[str]:
    """A policy is of pods that exist, opens ports that they have, and lets pods that exist in and out."""
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        own = selected(objects, spec["podSelector"])
        if not own:
            yield f"{called(policy)} is of no pods"
        for direction, kind, key in (("ingress", "Ingress", "from"), ("egress", "Egress", "to")):
            if direction in spec and kind not in spec["policyTypes"]:
                yield f"{called(policy)} has rules of {direction} that do not count"
            for at in spec.get(direction, []):
                peers = [each for each in at.get(key, []) if set(each) == {"podSelector"}]
                found = [each for peer in peers for each in selected(objects, peer["podSelector"])]
                if len(found) < len(peers):
                    yield f"{called(policy)}: there is nobody for {direction}"
                for port in at.get("ports", []):
                    # Ports are those of who is talked to; of who is elsewhere they are not known.
                    for workload in own if direction == "ingress" else found:
                        if port["port"] not in ports_of(pod_of(workload)):
                            yield f"{called(policy)} opens {port['port']}, which {called(workload)} lacks"


@rule
def both_ends_of_a_way_are_open(objects: list[Object]) -> Iterator[str]:
    """Who may go out to a port of other pods is let in there: one of two policies alone would open nothing."""
    policies = of_kind(objects, "NetworkPolicy")

    def lets_in(source: Object, target: Object, port: int | str) -> bool:
        return any(
            # Without ports, or without peers, a rule is about all of them.
            port in [each["port"] for each in at.get("ports") or [{"port": port}]]
            and any(
                set(peer) == {"podSelector"} and selects(peer["podSelector"], labels_of(source))
                for peer in at.get("from") or [{"podSelector": {}}]
            )
            for policy in policies
            if selects(policy["spec"]["podSelector"], labels_of(target))
            for at in policy["spec"].get("ingress", [])
        )

    for policy in policies:
        for at in policy["spec"].get("egress", []):
            peers = [each for each in at.get("to", []) if set(each) == {"podSelector"}]
            for source in selected(objects, policy["spec"]["podSelector"]):
                for target in (each for peer in peers for each in selected(objects, peer["podSelector"])):
                    for port in at.get("ports", []):
                        if not lets_in(source, target, port["port"]):
                            yield f"{called(source)} may ask {called(target)} at {port['port']}, which does not let it in"


@rule
def services_are_open_to_somebody(objects: list[Object]) -> Iterator[str]:
    """Each port that a Service sends to is one that a policy lets somebody reach."""
    for service in of_kind(objects, "Service"):
        for workload in selected(objects, {"matchLabels": service["spec"]["selector"]}):
            opened = {
                port["port"]
                for policy in of_kind(objects, "NetworkPolicy")
                if selects(policy["spec"]["podSelector"], labels_of(workload))
                for at in policy["spec"].get("ingress", [])
                for port in at.get("ports", [])
            }
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in opened:
                    yield f"{called(service)} sends to {port['targetPort']}, which no policy opens"
