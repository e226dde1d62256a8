"""Item 13 on real servers: what a fleet asks is counted by the servers."""

from __future__ import annotations

import time

import pytest

from benchmarks.count_probes import count
from rds_router import Router, RoutingPolicy
from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES


def test_a_fleet_asks_each_replica_about_once_a_second(mariadb_cluster: Cluster) -> None:
    """Twenty-four workers in four processes; everybody knows the replicas, few hold a connection."""
    counted = count(mariadb_cluster, 24, 4.0, shared=True)
    assert all(0.3 <= each <= 4.0 for each in counted.probes), counted
    assert counted.eligible == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_news_of_every_engine_travels(engine: str, request: pytest.FixtureRequest) -> None:
    """A second router knows the replicas, with their positions, from what the first one was told."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    urls = [each.url for each in c.servers]
    policy = RoutingPolicy(probe_interval=60.0)
    with Router(urls[0], urls[1:], policy=policy) as first, Router(urls[0], urls[1:], policy=policy) as second:
        first.start()
        assert eventually(lambda: all(seen.observation for seen in first.topology.servers))
        began = time.monotonic()
        second.start()
        assert eventually(lambda: all(seen.observation for seen in second.topology.servers))
        for seen in second.topology.servers:
            known = first.topology[seen.server.name].report
            assert seen.observation is not None
            assert seen.observation.at < began, "it was asked before, by the first one"
            assert seen.report is not None
            assert known is not None
            assert (seen.report.position, seen.report.run) == (known.position, known.run)
        assert second.dialect.name == first.dialect.name
        assert len(second.topology.eligible) == 2
        assert second.events.counts["NewsNotShared"] == 0
