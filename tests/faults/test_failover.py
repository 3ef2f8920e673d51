"""A primary that dies and is replaced by one of its replicas, and a slot that moves: Sentinel, and Cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.redisserver import cluster, sentinel, wait_until

from .scenario import running

NAMESPACE = "default"


def test_a_fail_over_by_sentinel_loses_nothing_that_a_replica_had(tmp_path: Path) -> None:
    """With answers that wait for a replica the new primary has all of them, and streams go on from there."""
    with sentinel(tmp_path) as group, running(group.url, backplane_replicas=1) as scenario:
        old = group.primary()
        old.kill()
        new = group.wait_for_primary(other_than=old)
        scenario.publishers.wait_for(160)
        verdict = scenario.finish(new.client())

        verdict.check_outage()


@pytest.mark.soak
def test_a_primary_that_was_only_asleep_does_not_split_the_feed(tmp_path: Path) -> None:
    """It wakes up after its fail-over, and what waited for it in its connections is published once, by the new one."""
    with sentinel(tmp_path) as group, running(group.url, backplane_replicas=1) as scenario:
        old = group.primary()
        old.pause()
        new = group.wait_for_primary(other_than=old)
        scenario.publishers.wait_for(80)
        old.resume()
        scenario.publishers.wait_for(80)
        group.wait_until_healthy()
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(new.client())

        verdict.check_outage()


def test_a_fail_over_in_a_cluster_loses_nothing_that_a_replica_had(tmp_path: Path) -> None:
    """The same where the namespace's slots go to a replica; the server that died comes back as the replica of that one."""
    with cluster(tmp_path) as nodes, running(nodes.url, backplane_replicas=1) as scenario:
        old = nodes.primary_of(NAMESPACE)
        old.kill()
        new = nodes.wait_for_primary(NAMESPACE, other_than=old)
        old.start()
        nodes.wait_until_healthy()
        scenario.publishers.wait_for(160)
        verdict = scenario.finish(new.client())

        verdict.check_outage()


@pytest.mark.soak
def test_a_primary_of_a_cluster_that_was_only_asleep_does_not_split_the_feed(tmp_path: Path) -> None:
    """What it publishes when it wakes up reaches the new one's subscribers over the Cluster's bus, and is not delivered."""
    with cluster(tmp_path) as nodes, running(nodes.url) as scenario:
        old = nodes.primary_of(NAMESPACE)
        new = nodes.replica_of(old)
        old.pause()
        wait_until(lambda: new.client().info("replication")["role"] == "master", "the replica has taken over")
        scenario.publishers.wait_for(80)
        old.resume()
        scenario.publishers.wait_for(80)
        nodes.wait_until_healthy()
        scenario.publishers.wait_for(80)
        verdict = scenario.finish(new.client())

        verdict.check_outage()


def test_a_slot_that_moves_to_another_server_loses_nothing(tmp_path: Path) -> None:
    """Publishers and subscribers follow the namespace's slot, there and back."""
    with cluster(tmp_path) as nodes, running(nodes.url) as scenario:
        source = nodes.primary_of(NAMESPACE)
        target = next(each for each in nodes.servers[:3] if each is not source)
        for server in (target, source):
            nodes.move(NAMESPACE, server)
            assert nodes.primary_of(NAMESPACE) is server
            scenario.publishers.wait_for(80)
        verdict = scenario.finish(source.client())

        verdict.check()
        assert verdict.disconnects.total() == 0
