"""R10: a read whose replica is gone is run again elsewhere, and the transaction goes on as if nothing had happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import String, exc, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster, Server
from tests.cluster.asking import eventually
from tests.conftest import ClusterFactory


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))


@pytest.fixture(params=("mariadb", "mysql", "postgresql"))
def stage(request: pytest.FixtureRequest, lab_cluster: ClusterFactory) -> Iterator[tuple[Cluster, Router]]:
    """Two replicas with one post, and a router whose monitor sleeps: the sessions find out for themselves."""
    cluster = lab_cluster(request.param)
    policy = RoutingPolicy(probe_interval=600)
    with Router(cluster.primary.url, [each.url for each in cluster.replicas], policy=policy) as router:
        Base.metadata.create_all(router.primary)
        with RoutingSession(router=router) as session:
            session.add(Post(id=1, title="one"))
            session.commit()
        cluster.wait_caught_up()
        assert eventually(lambda: router.refresh() and len(router.topology.eligible) == 2)
        yield cluster, router


def _server(cluster: Cluster, router: Router, name: str) -> Server:
    return next(each for each in cluster.servers if f"{each.host}:{each.port}" == name)


def test_reads_go_on_when_the_replica_of_this_transaction_dies(stage: tuple[Cluster, Router]) -> None:
    """Get, scalars, text and lazy state: each is answered by the other replica, and commit works."""
    cluster, router = stage
    with RoutingSession(router=router) as session:
        assert session.scalar(text("SELECT count(*) FROM posts")) == 1
        pinned = session._scope.pinned
        assert pinned is not None
        cluster.kill(_server(cluster, router, pinned))
        with router.capture() as routes:
            assert session.scalars(select(Post)).one().title == "one"
            assert session.get(Post, 1) is not None
            assert session.scalar(text("SELECT count(*) FROM posts")) == 1
        assert routes[-1].decision.is_replica
        assert routes[-1].decision.target != pinned
        session.commit()
        session.add(Post(id=2, title="two"))
        session.commit()
    assert router.events.counts["ReadRetried"] == 1


def test_with_every_replica_dead_the_primary_answers(stage: tuple[Cluster, Router]) -> None:
    cluster, router = stage
    with RoutingSession(router=router) as session:
        assert session.scalars(select(Post.title)).all() == ["one"]
        for replica in cluster.replicas:
            cluster.kill(replica)
        assert session.scalars(select(Post.title)).all() == ["one"]
        session.commit()
    assert router.events.counts["ReadRetried"] == 2
    assert router.events.counts["ReadOnPrimary"] >= 1


def test_a_replica_that_is_back_is_read_from_without_an_error(stage: tuple[Cluster, Router]) -> None:
    """Its pool still held connections to the process that died."""
    cluster, router = stage
    for replica in cluster.replicas:
        with router.replica_engine(f"{replica.host}:{replica.port}").connect() as connection:
            connection.execute(text("SELECT 1"))
        cluster.kill(replica)
    assert router.refresh()
    assert not router.topology.eligible
    for replica in cluster.replicas:
        cluster.restart(replica)
    cluster.wait_caught_up()
    assert router.refresh()
    for _ in range(10):
        with RoutingSession(router=router) as session:
            assert session.scalars(select(Post.title)).all() == ["one"]
    assert router.events.counts["ReadRetried"] == 0


def test_a_statement_with_a_fault_of_its_own_is_not_run_again(stage: tuple[Cluster, Router]) -> None:
    _, router = stage
    with RoutingSession(router=router) as session, pytest.raises(exc.DBAPIError):
        session.execute(text("SELECT no_such_column FROM posts"))
    assert router.events.counts["ReadRetried"] == 0


def test_nothing_is_run_again_after_a_write(stage: tuple[Cluster, Router]) -> None:
    """The primary dies under an open transaction: the error is the caller's to see."""
    cluster, router = stage
    with RoutingSession(router=router) as session:
        session.add(Post(id=3, title="three"))
        session.flush()
        cluster.kill(cluster.primary)
        with pytest.raises(exc.DBAPIError):
            session.scalars(select(Post)).all()
    assert router.events.counts["ReadRetried"] == 0


def test_a_first_read_on_the_primary_survives_it(stage: tuple[Cluster, Router]) -> None:
    """It was under way when the primary died: the next primary answers; nothing else of its transaction was lost."""
    cluster, router = stage
    answers: list[object] = []
    died = router.topology.writer
    pool: Any = router.primary_engine().pool

    def read() -> None:
        with RoutingSession(router=router) as session, session.using_primary():
            try:
                answers.append(session.scalars(select(Post.title)).all())
                answers.append(session.get_one(Post, 1).title)
                session.commit()
            except Exception as error:
                answers.append(error)

    read()
    cluster.freeze(cluster.primary)
    reader = threading.Thread(target=read)
    reader.start()
    assert eventually(lambda: pool.checkedout() == 1, seconds=30)
    time.sleep(0.3)  # it is sent in the meantime; if not, the connection is found closed, and there is less to see
    cluster.kill(cluster.primary)
    cluster.promote(cluster.replicas[0])
    reader.join(60)
    assert answers == [["one"], "one"] * 2
    assert router.topology.writer != died


def test_a_later_read_on_the_primary_does_not(stage: tuple[Cluster, Router]) -> None:
    """What was read before, in the same transaction, may have come from a snapshot that is gone."""
    cluster, router = stage
    with RoutingSession(router=router) as session, session.using_primary():
        session.scalars(select(Post)).all()
        cluster.kill(cluster.primary)
        with pytest.raises(exc.DBAPIError):
            session.scalars(select(Post)).all()
    assert router.events.counts["ReadRetried"] == 0


def test_no_connection_is_left_checked_out(stage: tuple[Cluster, Router]) -> None:
    cluster, router = stage
    names = [f"{each.host}:{each.port}" for each in cluster.replicas]
    with RoutingSession(router=router) as session:
        session.scalars(select(Post)).all()
        for replica in cluster.replicas:
            cluster.kill(replica)
        session.scalars(select(Post)).all()
    for name in names:
        assert router.replica_engine(name).pool.checkedout() == 0  # type: ignore[attr-defined]
    assert router.primary_engine().pool.checkedout() == 0  # type: ignore[attr-defined]
