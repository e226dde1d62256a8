"""Drains, turns, load and the last resort, as sessions meet them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool, QueuePool

from rds_router import NoServerAvailable, Reason
from rds_router.core.health import State
from rds_router.core.observation import Observation
from rds_router.core.statement import Kind, Statement
from rds_router.events import Drained, ReadOnPrimary, ReadOnStale, ReadOnSuspect, ReadRefused, Undrained
from rds_router.testing import FixedServers, fixed_servers
from tests.session.conftest import MakeStage
from tests.session.models import User
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)


def read(stage: Stage) -> None:
    """One read in a session of its own, which ends."""
    with stage.session() as session:
        assert session.scalar(A_READ) == "ann"


def readers(stage: Stage, count: int) -> Counter[str]:
    """Who answered so many reads, each in a session of its own."""
    with stage.watching() as seen:
        for _ in range(count):
            read(stage)
    return Counter(seen.servers)


# --- drain


def test_no_transaction_begins_to_read_on_a_drained_replica(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.router.drain("replica-1")
    assert readers(stage, 10) == {"replica-2": 10}
    assert "replica-1 drained" in repr(stage.router.topology)
    assert str(stage.router.explain(A_READ)) == "replica-2 (replica; replica-1 drained)"
    stage.router.undrain("replica-1")
    stage.router.drain("replica-2")
    assert readers(stage, 10) == {"replica-1": 10}
    assert [str(each) for each in stage.events if isinstance(each, (Drained, Undrained))] == [
        "Drained server='replica-1'",
        "Undrained server='replica-1'",
        "Drained server='replica-2'",
    ]
    assert stage.router.events.counts["ReplicaOut"] == 0, "nothing is wrong with it"


def test_a_transaction_under_way_ends_on_the_drained_replica(on_sqlite: MakeStage) -> None:
    stage = on_sqlite()
    stage.router.drain("replica-2")
    session = stage.session()
    with stage.watching() as seen:
        session.scalar(A_READ)
        stage.router.drain("replica-1")
        session.scalar(A_READ)
        session.scalar(A_READ)
        session.commit()
        session.scalar(A_READ)
    assert seen.servers == ["replica-1"] * 3 + ["primary"]


@pytest.mark.parametrize("name", ["primary", "replica-9"])
def test_only_a_replica_can_be_drained(on_sqlite: MakeStage, name: str) -> None:
    router = on_sqlite().router
    for act in (router.drain, router.undrain):
        with pytest.raises(ValueError, match=rf"^no replica is called '{name}'; there are replica-1, replica-2$"):
            act(name)


# --- choice


def test_in_turns(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"balance": "round_robin"})
    with stage.watching() as seen:
        for _ in range(8):
            read(stage)
    assert seen.servers[:2] in (["replica-1", "replica-2"], ["replica-2", "replica-1"])
    assert seen.servers == seen.servers[:2] * 4


@pytest.mark.parametrize(
    ("balance", "served"), [("least_loaded", {"replica-1": 5, "replica-2": 5}), ("random", {"replica-1": 10})]
)
def test_connections_in_use_count(on_sqlite: MakeStage, balance: str, served: dict[str, int]) -> None:
    """Ten transactions that stay open: five on each replica, though the dice always name the first."""
    stage = on_sqlite(policy={"balance": balance}, random=lambda: 0.1)
    with stage.watching() as seen:
        for _ in range(10):
            stage.session().scalar(A_READ)
    assert Counter(seen.servers) == served


def test_the_count_of_connections_in_use_is_the_pool_s_own(on_sqlite: MakeStage) -> None:
    """It is read past the pool's lock: should SQLAlchemy keep it otherwise one day, this fails."""
    router = on_sqlite().router
    engines = router._engines
    engine = engines.get("replica-1", "replica")
    assert isinstance(engine.pool, QueuePool)
    opened = []
    for _ in range(7):
        assert engines.in_use("replica-1") == engine.pool.checkedout() == len(opened)
        opened.append(engine.connect())
    for connection in opened:
        connection.close()
    assert engines.in_use("replica-1") == 0
    engine.dispose()
    assert engines.in_use("replica-1") == 0
    assert engines.in_use("replica-2") == 0, "not made yet: nobody used it"
    assert engines.places("replica-1", "replica") == 15


def test_a_pool_that_does_not_count_is_idle_and_without_bound(on_sqlite: MakeStage) -> None:
    router = on_sqlite(engine_options={"poolclass": NullPool}).router
    with router._engines.get("replica-1", "replica").connect():
        assert router._engines.in_use("replica-1") == 0
    assert router._engines.places("replica-1", "replica") == float("inf")


def test_another_pool_that_counts_is_asked() -> None:
    class Counting(NullPool):
        def checkedout(self) -> int:
            return 3

    from rds_router.engines import Engines

    engines = Engines.__new__(Engines)
    engines._engines = {"replica": {"r1": create_engine("sqlite://", poolclass=Counting)}}
    assert engines.in_use("r1") == 3


# --- all replicas out


@pytest.fixture
def lagging(on_sqlite: MakeStage) -> Stage:
    """Both replicas out, and a primary's pool of four, of which reads in their stead may take two."""
    stage = on_sqlite(policy={"max_lag": 5.0}, engine_options={"pool_size": 2, "max_overflow": 2, "pool_timeout": 1})
    stage.fall_behind(100)
    return stage


def test_reads_in_the_replicas_stead_leave_connections_for_writes(lagging: Stage) -> None:
    held = [lagging.session() for _ in range(2)]
    for session in held:
        session.scalar(A_READ)
    with pytest.raises(
        NoServerAvailable, match=r"the primary has no connection to spare for it: try again in a moment"
    ):
        lagging.session().scalar(A_READ)
    with pytest.raises(NoServerAvailable, match=r"raise primary_read_share \(now 0\.5\) or the primary's pool_size$"):
        lagging.router.explain(A_READ)
    writer = lagging.session()
    writer.get_one(User, 1, execution_options={"rds_route": "primary"}).name = "ann"
    writer.commit()
    held[0].close()
    read(lagging)


def test_such_a_read_waits_for_a_place(lagging: Stage) -> None:
    held = [lagging.session() for _ in range(2)]
    for session in held:
        session.scalar(A_READ)
    release = threading.Timer(0.2, held[0].close)
    release.start()
    read(lagging)
    release.join()
    assert lagging.router.events.counts["ReadRefused"] == 0


def test_every_fallback_is_counted_and_told_once_an_outage(lagging: Stage) -> None:
    for _ in range(3):
        read(lagging)
    (told,) = lagging.told(ReadOnPrimary)
    assert str(told) == "ReadOnPrimary server='primary' why='replica-1 lagging, replica-2 lagging'"
    assert lagging.router.events.counts["ReadOnPrimary"] == 3
    lagging.catch_up()
    read(lagging)
    lagging.fall_behind(100)
    read(lagging)
    assert len(lagging.told(ReadOnPrimary)) == 2
    assert lagging.router.events.counts["ReadOnPrimary"] == 4


def test_a_share_of_one_is_no_bound(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(
        policy={"max_lag": 5.0, "primary_read_share": 1.0}, engine_options={"pool_size": 2, "max_overflow": 2}
    )
    stage.fall_behind(100)
    for _ in range(4):
        stage.session().scalar(A_READ)
    assert stage.router.events.counts["ReadOnPrimary"] == 4


@pytest.mark.parametrize(
    ("last_resort", "kind", "text"),
    [
        ("error", ReadRefused, "no_replica='error' keeps it off the primary: bring a replica back"),
        ("stalest", ReadOnStale, "ReadOnStale server='replica-"),
    ],
)
def test_the_other_last_resorts_are_told_too(on_sqlite: MakeStage, last_resort: str, kind: Any, text: str) -> None:
    stage = on_sqlite(policy={"max_lag": 5.0, "hard_max_lag": 1000.0, "no_replica": last_resort})
    stage.fall_behind(100)
    for _ in range(3):
        try:
            read(stage)
        except NoServerAvailable:
            assert kind is ReadRefused
    (told,) = stage.told(kind)
    assert text in str(told)
    assert stage.router.events.counts[kind.__name__] == 3


# --- what reads report


def failing_read(router: Any, name: str) -> None:
    router.lost(name, OSError("connection reset"))


@pytest.fixture
def fixed(on_sqlite: MakeStage) -> Any:
    """A router on servers that are as the test says, and the names of those that were asked to be probed at once."""
    stage = on_sqlite(policy={"no_replica": "error", "probe_interval": 30.0})
    with fixed_servers(stage.router) as servers:
        woken: list[str] = []
        servers.wake = woken.append  # type: ignore[method-assign]
        yield stage.router, servers, woken


def test_a_replica_whose_reads_fail_again_is_left_alone_for_a_while(fixed: tuple[Any, FixedServers, list[str]]) -> None:
    """The first failure has it probed at once; one that follows a good probe does not, or it would flap."""
    router, servers, woken = fixed
    failing_read(router, "replica-1")
    assert woken == ["replica-1"]
    assert router.topology["replica-1"].health.state is State.SUSPECT
    servers.refresh()
    assert router.topology["replica-1"].health.state is State.UP
    failing_read(router, "replica-1")
    servers.refresh()
    assert woken == ["replica-1"]
    assert router.topology["replica-1"].health.state is State.DOWN
    assert router.explain(A_READ).target == "replica-2"


def test_the_last_one_is_tried_though_it_is_suspect(fixed: tuple[Any, FixedServers, list[str]]) -> None:
    router, _, _ = fixed
    for name in ("replica-1", "replica-2"):
        failing_read(router, name)
    decision = router.route(Statement(Kind.READ))
    assert decision.reason is Reason.LAST_LEFT
    assert decision.is_replica
    assert router.events.counts[ReadOnSuspect.__name__] == 1


def test_while_the_primary_is_missing_nobody_is_left_alone(fixed: tuple[Any, FixedServers, list[str]]) -> None:
    """All are asked when it goes missing, and at the regular interval from then on, however often they failed."""
    router, servers, woken = fixed
    for _ in range(6):
        servers.fails("replica-1", "gone")
    interval = router.policy.probe_interval
    router._random = lambda: 0.0
    assert router._pause("replica-1") == 0.0, "down: a pause from 0 on"
    assert router._pause("replica-2") == 0.8 * interval
    router._observe(Observation("primary", router.clock(), error="gone"))
    assert sorted(woken) == ["replica-1", "replica-2"]
    assert router._pause("replica-1") == router._pause("primary") == 0.8 * interval
