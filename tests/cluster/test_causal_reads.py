"""A read with a token: a replica known to have it, one that says so when asked, a bounded wait, the primary.

On real servers, with stopped and delayed appliers, a restart, primaries that moved, and snapshots that were open
before: never behind the token.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, insert, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import NullPool

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.events import CaughtUp, StillBehind
from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, run
from tests.conftest import ClusterFactory

pytestmark = pytest.mark.once

metadata = MetaData()
notes = Table("causal_notes", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
COUNT = select(func.count()).select_from(notes)
LONG = 20.0
"""Seconds: no test waits for it to pass."""


@pytest.fixture(scope="module", params=ENGINES)
def c(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The shared cluster of each engine, with a table of this file's own."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    with tables(found):
        yield found


@contextlib.contextmanager
def tables(c: Cluster) -> Iterator[None]:
    engine = create_engine(c.primary.url, poolclass=NullPool)
    metadata.create_all(engine)
    c.wait_caught_up()
    yield
    metadata.drop_all(create_engine(c.primary.url, poolclass=NullPool))
    c.wait_caught_up()


@pytest.fixture(autouse=True)
def emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "c" in request.fixturenames:
        c: Cluster = request.getfixturevalue("c")
        for replica in c.replicas:
            c.set_delay(replica, 0)
            c.resume_replication(replica)
        run(c.primary.url, "DELETE FROM causal_notes")
        c.wait_caught_up()


@contextlib.contextmanager
def a_router(c: Cluster, **policy: Any) -> Iterator[Router]:
    """It asks nobody by itself: what it knows it was told, or went to ask for because of a token."""
    given = {"probe_interval": 3600.0, "probe_timeout": 5.0, "causal_wait": 10.0, **policy}
    with Router(
        Replica(c.primary.url, name=c.primary.name),
        [Replica(each.url, name=each.name) for each in c.replicas],
        policy=RoutingPolicy(**given),
    ) as router:
        assert router.refresh(LONG)
        yield router


def wrote(router: Router, number: int = 1) -> str:
    """One row more, by somebody; his token as text."""
    with RoutingSession(router=router) as session:
        session.execute(insert(notes).values(id=number))
        session.commit()
        token = session.token
    assert token is not None
    assert token.position is not None
    return str(token)


def heard_of(router: Router, primary: str) -> bool:
    router.refresh(LONG)
    return router.topology.writer == primary


def read(router: Router, token: str) -> tuple[int, str, bool]:
    """What somebody with the token reads, where, and whether that was a replica."""
    with router.read_after(token), RoutingSession(router=router) as session, router.capture() as routed:
        count = session.scalar(COUNT)
    decision = routed[0].decision
    assert count is not None
    return count, decision.target, decision.is_replica


@contextlib.contextmanager
def hurries(router: Router) -> Iterator[list[tuple[str, ...]]]:
    """Whom readers had the monitor ask while the block runs."""
    asked: list[tuple[str, ...]] = []
    monitor = router._monitor
    original = monitor.hurry

    def hurry(names: Iterable[str], timeout: float, *, enough: int = 1) -> bool:
        asked.append(tuple(names))
        return original(asked[-1], timeout, enough=enough)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "hurry", hurry)
        yield asked


def test_a_replica_known_to_have_it_is_not_asked_again(c: Cluster) -> None:
    """The usual case: no trip but the read's own. And what was learnt for one reader holds for the next."""
    with a_router(c) as router:
        token = wrote(router)
        assert read(router, token)[::2] == (1, True)
        assert router.events.counts[CaughtUp.__name__] == 1
        c.wait_caught_up()
        assert router.refresh(LONG)
        with hurries(router) as asked:
            for _ in range(5):
                assert read(router, token)[::2] == (1, True)
        assert asked == []
        assert router.events.counts[CaughtUp.__name__] == 1


def test_of_two_replicas_the_one_that_has_it_answers(c: Cluster) -> None:
    stopped, other = c.replicas
    with a_router(c) as router:
        c.pause_replication(stopped)
        token = wrote(router)
        for _ in range(5):
            assert read(router, token) == (1, other.name, True)


def test_with_every_applier_stopped_the_primary_answers_after_the_wait(c: Cluster) -> None:
    """And the next reader with that token does not wait for what was waited for in vain."""
    with a_router(c, causal_wait=0.05) as router:
        for replica in c.replicas:
            c.pause_replication(replica)
        token = wrote(router)
        assert read(router, token) == (1, c.primary.name, False)
        assert router.events.counts[StillBehind.__name__] == 1
        with hurries(router) as asked:
            assert read(router, token) == (1, c.primary.name, False)
        assert asked == []


def test_a_wait_ends_as_soon_as_a_replica_has_it(c: Cluster) -> None:
    """Appliers that go on while the reader waits."""
    with a_router(c, causal_wait=10.0) as router:
        for replica in c.replicas:
            c.pause_replication(replica)
        token = wrote(router)
        later = threading.Timer(0.3, c.resume_replication, [c.replicas[1]])
        later.start()
        try:
            assert read(router, token) == (1, c.replicas[1].name, True)
        finally:
            later.join()


def test_a_delayed_replica_is_not_read_before_it_has_it(c: Cluster) -> None:
    """SOURCE_DELAY, MASTER_DELAY, recovery_min_apply_delay: its threads run, and it is behind."""
    with a_router(c, causal_wait=0.05, max_lag=3600.0) as router:
        for replica in c.replicas:
            c.set_delay(replica, 30)
        for number in range(1, 4):
            assert read(router, wrote(router, number)) == (number, c.primary.name, False)
            assert router.refresh(LONG)


def test_a_snapshot_opened_before_is_not_read_behind_the_token(c: Cluster) -> None:
    """The replica has the row by then, the open transaction on it does not: the rest is read on the primary."""
    with a_router(c, replica_transactions="snapshot") as router, RoutingSession(router=router) as reader:
        with router.capture() as routed:
            assert reader.scalar(COUNT) == 0
            token = wrote(router)
            c.wait_caught_up()
            assert router.refresh(LONG)
            reader.read_after(token)
            assert reader.scalar(COUNT) == 1
            reader.rollback()
            assert reader.scalar(COUNT) == 1
        where = [each.decision.is_replica for each in routed if each.clause is COUNT]
        assert where == [True, False, True]


def test_a_snapshot_on_the_primary_cannot_be_renewed_and_says_so(c: Cluster) -> None:
    """REPEATABLE READ, the default of MySQL and MariaDB: waiting inside it proves nothing, and nobody may think so."""
    with a_router(c) as router, RoutingSession(router=router) as reader, reader.using_primary():
        assert reader.scalar(COUNT) == 0
        token = wrote(router)
        if c.engine == "postgresql":
            reader.read_after(token)
        else:
            with pytest.raises(InvalidRequestError, match="end the transaction first"):
                reader.read_after(token)
            reader.rollback()
            reader.read_after(token)
        assert reader.scalar(COUNT) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_primary_that_moved_without_our_knowing_is_not_read_behind_the_token(
    engine: str, lab_cluster: ClusterFactory
) -> None:
    """Another process has followed and written on the new primary; this one has heard nothing yet."""
    c = lab_cluster(engine)
    run(c.primary.url, "CREATE TABLE causal_notes (id INT PRIMARY KEY)")
    c.wait_caught_up()
    old, new, other = c.primary, *c.replicas
    with a_router(c, causal_wait=0.2) as here, a_router(c) as there:
        token_of_old = wrote(there, 1)
        c.wait_caught_up()
        c.promote(new)
        for replica in (old, other):
            c.pause_replication(replica)
        for _ in range(2):
            assert there.refresh(LONG)
        assert there.topology.writer == new.name
        token = wrote(there, 2)
        assert here.topology.writer == old.name
        assert read(here, token) == (2, new.name, False)
        assert here.topology.writer == new.name
        # A position of the old primary, on the new one and its replicas.
        assert read(here, token_of_old)[0] >= 1
        for replica in (old, other):
            c.resume_replication(replica)
        c.wait_caught_up()
        for router in (here, there):
            assert router.refresh(LONG)
            for each in (token, token_of_old):
                assert read(router, each)[0] == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_fail_over_and_restart_in_between(engine: str, lab_cluster: ClusterFactory) -> None:
    """The primary is killed after the write, a replica promoted, the other one restarted: the row is read."""
    c = lab_cluster(engine)
    run(c.primary.url, "CREATE TABLE causal_notes (id INT PRIMARY KEY)")
    c.wait_caught_up()
    old, new, other = c.primary, *c.replicas
    with a_router(c, causal_wait=0.2, probe_timeout=1.0) as router:
        token = wrote(router, 1)
        c.wait_caught_up()
        c.kill(old)
        c.promote(new)
        assert eventually(lambda: heard_of(router, new.name), seconds=LONG)
        assert read(router, token)[0] == 1
        later = wrote(router, 2)
        c.restart(other)
        c.wait_caught_up(other)

        def is_read_there() -> bool:
            router.refresh(LONG)
            return read(router, later) == (2, other.name, True)

        assert eventually(is_read_there, seconds=LONG)
        assert read(router, token)[0] == 2
