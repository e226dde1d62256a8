"""A frozen server costs a read no more than read_deadline once; a slow read on a healthy server costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.events import ReplicaOut
from rds_router.lab import Cluster, Server
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, eligible, run

DEADLINE = 0.6
ENOUGH = 8.0
"""Seconds: far more than a deadline takes on a busy machine, far less than a wait that nobody ends."""
ONE = text("SELECT 1")


@pytest.fixture(params=ENGINES)
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Each engine's shared cluster; whoever was frozen is thawed."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    yield cluster
    for server in cluster.servers:
        if not server.is_running:
            cluster.thaw(server)
    cluster.wait_caught_up(timeout=30.0)


@contextmanager
def reading(
    c: Cluster,
    *,
    interval: float = 0.2,
    deadline: float = DEADLINE,
    transactions: Any = "autocommit",
    **options: Any,
) -> Iterator[Router]:
    """A router over the cluster that knows its replicas. ``interval``: 600 for a monitor that sleeps."""
    primary, *replicas = (Replica(each.url, name=each.name) for each in c.servers)
    policy = RoutingPolicy(
        read_deadline=deadline, probe_interval=interval, probe_timeout=0.5, replica_transactions=transactions
    )
    with Router(primary, replicas, policy=policy, replica_engine_options=options) as router:
        # A monitor that sleeps does not look again by itself after a probe that took too long.
        assert eventually(lambda: router.refresh() and len(eligible(router)) == 2)
        yield router


def pinned(session: RoutingSession, c: Cluster) -> Server:
    """The replica that this session reads from, after a first read there."""
    session.scalar(ONE)
    return next(each for each in c.servers if each.name == session._scope.pinned)


def sleeping(c: Cluster, seconds: float) -> Any:
    return text(f"SELECT {'pg_sleep' if c.engine == 'postgresql' else 'SLEEP'}({seconds})")


@pytest.mark.parametrize(
    ("interval", "own"), [(0.2, None), (600.0, None), (0.2, 60)], ids=["watched", "unwatched", "long limits of its own"]
)
def test_a_frozen_server_costs_a_read_its_deadline_once(shared: Cluster, interval: float, own: int | None) -> None:
    """In the middle of a transaction: the other replica answers, and from then on nobody waits.

    ``own``: time limits among the connect arguments, as a careful application has them for its primary above all.
    """
    limits = ["connect_timeout"] + ["read_timeout", "write_timeout"] * (shared.engine != "postgresql")
    arguments = {"connect_args": dict.fromkeys(limits, own)} if own else {}
    with reading(shared, interval=interval, **arguments) as router, RoutingSession(router=router) as session:
        frozen = pinned(session, shared)
        shared.freeze(frozen)
        began = time.monotonic()
        assert session.scalar(ONE) == 1
        assert time.monotonic() - began < DEADLINE + ENOUGH
        session.commit()
        assert frozen.name not in eligible(router)
        with router.capture() as routed:
            for _ in range(10):
                assert session.scalar(ONE) == 1
                session.commit()
        assert {each.decision.target for each in routed} == {
            each.name for each in shared.replicas if each is not frozen
        }
        assert router.events.counts["ReadRetried"] <= 1  # the monitor may be faster than the read
        assert router.replica_engine(frozen.name).pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("transactions", ["autocommit", "snapshot"])
def test_a_commit_is_no_concern_of_a_replica_that_froze(shared: Cluster, transactions: Any) -> None:
    """Nothing there needs it: neither a session that only read nor one that wrote on the primary gets its error."""
    table = "CREATE TABLE IF NOT EXISTS deadline_written (id INT PRIMARY KEY)"
    run(shared.primary.url, table, "DELETE FROM deadline_written")
    shared.wait_caught_up(timeout=30.0)
    with reading(shared, interval=600.0, transactions=transactions) as router:
        first, second = RoutingSession(router=router), RoutingSession(router=router)
        with first, second:
            readers = {pinned(first, shared), pinned(second, shared)}
            second.execute(text("INSERT INTO deadline_written VALUES (1)"))
            for replica in readers:
                shared.freeze(replica)
            second.commit()
            first.commit()
        for replica in readers:
            assert router.replica_engine(replica.name).pool.checkedout() == 0  # type: ignore[attr-defined]
    assert run(shared.primary.url, "SELECT count(*) FROM deadline_written") == 1
    run(shared.primary.url, "DROP TABLE deadline_written")


def test_neither_a_pre_ping_nor_connecting_costs_more(shared: Cluster) -> None:
    """A ping that ends is followed by no attempt to connect, which would take its time once more."""
    with reading(shared, interval=600.0, pool_pre_ping=True) as router:
        for replica in shared.replicas:
            engine = router.replica_engine(replica.name)
            engine.connect().close()
            shared.freeze(replica)
            began = time.monotonic()
            with RoutingSession(router=router) as session:
                assert session.scalar(ONE) == 1
            with RoutingSession(router=router) as session:
                assert session.scalar(ONE) == 1
            assert time.monotonic() - began < 2 * DEADLINE + ENOUGH
        assert eligible(router) == []
        assert router.events.counts["ReadRetried"] == 2


def test_a_read_on_a_healthy_server_may_take_longer(shared: Cluster) -> None:
    """Also where the monitor sleeps but for the question that the slow read itself makes it ask."""
    with reading(shared, interval=600.0, deadline=1.6) as router:
        told: list[Any] = []
        router.events.listen(told.append)
        with RoutingSession(router=router) as session:
            server = pinned(session, shared)
            session.execute(sleeping(shared, 2.6), execution_options={"rds_route": "replica"})
            assert session._scope.pinned == server.name
            assert session.scalar(ONE) == 1
        assert router.events.counts["ReadRetried"] == 0
        assert not [each for each in told if isinstance(each, ReplicaOut)]


def test_a_read_that_was_slow_before_its_server_froze_ends(shared: Cluster) -> None:
    """Silence counts from when the server was last heard of, not from when the read began."""
    with reading(shared) as router:
        ended = threading.Event()

        def report() -> None:
            with router.replica_engine(shared.replicas[0].name).connect() as connection:
                with pytest.raises(Exception, match="has been silent for"):
                    connection.execute(sleeping(shared, 60))
                ended.set()

        thread = threading.Thread(target=report)
        thread.start()
        assert not ended.wait(2 * DEADLINE)
        shared.freeze(shared.replicas[0])
        assert ended.wait(DEADLINE + ENOUGH)
        thread.join()
