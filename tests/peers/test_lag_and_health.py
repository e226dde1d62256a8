"""Lines 18 and 19: what other balancers do with servers that die and come back."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select

from rds_router import NoServerAvailable
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.topology import Server
from rds_router.testing import fixed_servers
from tests.session.conftest import MakeStage
from tests.session.models import User

A_READ = select(User.name).where(User.id == 1)


def test_18_with_one_of_two_replicas_dead_no_request_fails(on_sqlite: MakeStage) -> None:
    """Half of them fail elsewhere."""
    stage = on_sqlite()
    with fixed_servers(stage.router) as servers:
        servers.fails("replica-1")
        with stage.watching() as seen:
            for _ in range(20):
                with stage.session() as session:
                    assert session.scalar(A_READ) == "ann"
    assert Counter(seen.servers) == {"replica-2": 20}


def test_18_with_all_dead_the_primary_is_not_stampeded(on_sqlite: MakeStage) -> None:
    """Elsewhere everything fails, or everything goes there: here as many at a time as leave room for writes."""
    stage = on_sqlite(engine_options={"pool_size": 4, "max_overflow": 0})
    with fixed_servers(stage.router) as servers:
        for name in ("replica-1", "replica-2"):
            servers.fails(name)
            servers.fails(name)
        readers = [stage.session() for _ in range(3)]
        for session in readers[:2]:
            assert session.scalar(A_READ) == "ann"
        with pytest.raises(NoServerAvailable):
            readers[2].scalar(A_READ)
        with stage.session() as writer:
            writer.add(User(id=11, name="eva"))
            writer.commit()
    assert stage.router.events.counts["ReadOnPrimary"] == 2
    assert stage.router.events.counts["ReadRefused"] == 1


def test_19_a_replica_that_is_back_does_not_get_its_full_weight_at_once(on_sqlite: MakeStage) -> None:
    router = on_sqlite().router
    with fixed_servers(router) as servers:
        servers.fails("replica-1")
        servers.recovers("replica-1")
        now, policy = router.clock(), router.policy
        assert router.topology["replica-1"].weight_at(now, policy) == pytest.approx(0.1, abs=0.05)
        assert router.topology["replica-1"].weight_at(now + policy.slow_start, policy) == 1.0
        assert router.topology["replica-2"].weight_at(now, policy) == 1.0


def test_19_a_replica_that_is_added_is_used_by_a_process_that_runs_for_long() -> None:
    """Pools of a reader endpoint keep to the servers they found first: here each transaction chooses anew."""
    from rds_router.core.decision import first_read
    from rds_router.core.policy import RoutingPolicy
    from rds_router.core.topology import Topology, evolve

    db, old, new = Server("db", is_primary=True), Server("r1"), Server("r2")
    topology = Topology.of([db, old], RoutingPolicy())
    topology = evolve(topology, Observation("r1", 1.0, Report(Role.REPLICA, lag=0.0)), now=1.0)
    topology = evolve(topology, [db, old, new], now=100.0)
    for at in (101.0, 111.0):
        for name in ("r1", "r2"):
            topology = evolve(topology, Observation(name, at, Report(Role.REPLICA, lag=0.0)), now=at)
    chosen = Counter(first_read(topology, now=111.0, draw=number / 100) for number in range(100))
    assert chosen == {"r1": 50, "r2": 50}
