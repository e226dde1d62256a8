"""Lines 9 to 15: what other routers forget about a transaction, a session or a pool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import NullPool

from rds_router import RoutingSession
from tests.conftest import ClusterFactory
from tests.session.conftest import MakeStage
from tests.session.models import Account, Base, Post, User, seed
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)


def _flush(session: Session) -> Any:
    session.add(User(id=11, name="eva"))
    session.flush()


# --- 9

BEGINNINGS: dict[str, Callable[[Session], Any]] = {
    "a flush": _flush,
    "a locking read": lambda s: s.execute(A_READ.with_for_update()).all(),
    "text DML": lambda s: s.execute(text("UPDATE rt_user SET name = 'x' WHERE id = 2")),
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_09_reads_after_it_stay_on_the_primary(stage: Stage, beginning: str) -> None:
    """After a flush, a locking read or text DML the transaction reads what it has done and what it has locked."""
    session = stage.session()
    session.scalar(A_READ)
    with stage.watching() as seen:
        BEGINNINGS[beginning](session)
        session.scalar(A_READ)
        session.scalars(select(Post)).all()
    assert set(seen.parts) == {"primary"}


# --- 10


def test_10_three_reads_one_replica_one_connection(stage: Stage) -> None:
    """Not three snapshots and three connections held."""
    session = stage.session()
    with stage.watching() as seen:
        for _ in range(3):
            session.scalar(A_READ)
        held = [each for each in session._transaction._connections if not hasattr(each, "connect")]  # type: ignore[union-attr]
    assert len(set(seen.servers)) == 1
    assert seen.steps == [("replica", "BEGIN")]
    assert len(held) == 1


# --- 11


def test_11_refresh_after_commit_finds_the_row(stage: Stage) -> None:
    """Where stickiness ends at commit, refresh() raises InvalidRequestError: the replica has no such row yet."""
    session = stage.session()
    user = User(id=11, name="eva")
    session.add(user)
    session.commit()
    session.refresh(user)
    assert user.name == "eva"


def test_11_merge_after_commit_inserts_no_duplicate(stage: Stage) -> None:
    session = stage.session()
    session.add(User(id=11, name="eva"))
    session.commit()
    session.expunge_all()
    session.merge(User(id=11, name="eve"))
    session.commit()
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 11") == "eve"


# --- 12


def test_12_a_commit_does_not_end_using_primary(stage: Stage) -> None:
    session = stage.session()
    with session.using_primary(), stage.watching() as seen:
        for _ in range(3):
            session.scalar(A_READ)
            session.commit()
    assert seen.parts == ["primary"] * 3


def test_12_another_sessions_commit_changes_nothing_here(stage: Stage) -> None:
    """State belongs to the session, not to the thread."""
    here, there = stage.session(), stage.session()
    _flush(here)
    there.scalar(A_READ)
    there.commit()
    with stage.watching() as seen:
        here.scalar(A_READ)
    assert seen.parts == ["primary"]


def test_12_nor_does_another_thread(on_sqlite: MakeStage) -> None:
    stage = on_sqlite()
    with stage.session().using_primary() as here:
        found: list[str] = []

        def elsewhere() -> None:
            session = RoutingSession(router=stage.router)
            engine: Any = session.get_bind(clause=A_READ)
            found.append(str(engine.url))
            session.close()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert here.get_bind(clause=A_READ) is stage.router.primary_engine()
    assert found[0] in stage.urls[1:]


def test_12_with_session_begin_resets_it(stage: Stage) -> None:
    """It never calls Session.commit(), which is where others reset."""
    session = stage.session()
    with session.begin():
        session.execute(A_READ.with_for_update()).all()
    stage.catch_up()  # with what was seen on the primary
    with stage.watching() as seen, session.begin():
        session.scalar(A_READ)
    assert seen.parts == ["replica"]


# --- 13


def behind(stage: Stage) -> None:
    """The primary has moved on, by somebody else; the replicas do not know it."""

    def move() -> None:
        with stage.router.primary.begin() as connection:
            connection.execute(update(Account).where(Account.id == 1).values(balance=70, version=2))

    copy_context().run(move)


def test_13_a_lost_update_is_refused_by_the_version(on_sqlite: MakeStage) -> None:
    """Read from a stale replica, changed, written: SQLAlchemy's version_id_col refuses it, wherever it was read."""
    stage = on_sqlite()
    behind(stage)
    session = stage.session()
    with stage.watching() as seen:
        account = session.get_one(Account, 1)
        assert account.balance == 100
        account.balance -= 10
        with pytest.raises(StaleDataError):
            session.commit()
    session.rollback()
    assert seen.parts == ["replica", "primary"]
    assert stage.on_server(0, "SELECT balance FROM rt_account") == 70


@pytest.mark.parametrize("how", ["with_for_update", "using_primary", "rds_route"])
def test_13_whoever_reads_in_order_to_write_reads_on_the_primary(on_sqlite: MakeStage, how: str) -> None:
    """A locking read, a block or an option: each reads the true value, and nothing is lost."""
    stage = on_sqlite()
    behind(stage)
    session = stage.session()
    if how == "with_for_update":
        account = session.get_one(Account, 1, with_for_update=True)
    elif how == "using_primary":
        with session.using_primary():
            account = session.get_one(Account, 1)
    else:
        account = session.get_one(Account, 1, execution_options={"rds_route": "primary"})
    account.balance -= 10
    session.commit()
    assert stage.on_server(0, "SELECT balance FROM rt_account") == 60


def test_13_ones_own_writes_are_never_lost(on_sqlite: MakeStage) -> None:
    """Read, change, commit, and again, faster than any replica: each reads what the last has written."""
    stage = on_sqlite()
    session = stage.session()
    for _ in range(5):
        session.get_one(Account, 1).balance -= 10
        session.commit()
    assert stage.on_server(0, "SELECT balance FROM rt_account") == 50


# --- 14


def test_14_bind_arguments_and_model_binds_are_honoured(stage: Stage, tmp_path: Any) -> None:
    # Its sessions outlive it here: a pool would keep what they return, and nobody would close it.
    other = create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}", poolclass=NullPool)
    Base.metadata.create_all(other)
    with stage.watching() as seen:
        assert stage.session().scalars(select(User), bind_arguments={"bind": other}).all() == []
        assert stage.session(binds={User: other}).scalars(select(User)).all() == []
    other.dispose()
    assert seen == []


def test_14_it_works_with_no_replica(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(replicas=0)
    session = stage.session()
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "ann"
        _flush(session)
        session.commit()
    assert set(seen.parts) == {"primary"}


def test_14_it_works_outside_any_request(stage: Stage) -> None:
    """In a thread that no framework knows."""
    names: list[Any] = []

    def run() -> None:
        with RoutingSession(router=stage.router) as session:
            names.append(session.scalar(A_READ))

    thread = threading.Thread(target=run)
    with stage.watching() as seen:
        thread.start()
        thread.join()
    assert names == ["ann"]
    assert seen.parts == ["replica"]


# --- 15


def test_15_a_reader_and_a_writer_never_share_a_pool_slot(stage: Stage) -> None:
    """A connection that has read as a replica is not handed out for a write, nor the other way round."""
    session = stage.session()
    for _ in range(5):
        session.scalar(A_READ)
        session.rollback()
        session.execute(A_READ.with_for_update()).all()
        session.rollback()
    by_part: dict[str, set[str]] = {"primary": set(), "replica": set()}
    for ran in stage.record:
        by_part[ran.part].add(ran.server)
    assert by_part["primary"] == {"primary"}
    assert by_part["replica"] <= {"replica-1", "replica-2"}


def test_15_a_server_that_changed_its_role_gets_a_new_pool(lab_cluster: ClusterFactory) -> None:
    """The promoted replica takes writes over connections that are not read-only; no slot of the old pool is used."""
    cluster = lab_cluster("mariadb", replicas=1)
    stage = Stage([server.url for server in cluster.servers], cluster=cluster, replicas=1)
    try:
        Base.metadata.create_all(stage.router.primary)
        with stage.router.primary.begin() as connection:
            seed(connection)
        stage.catch_up()
        session = stage.session()
        assert session.scalar(A_READ) == "ann"
        reader: Any = session.get_bind(clause=A_READ)
        session.rollback()
        cluster.promote(cluster.replicas[0])
        stage.refresh()
        stage.refresh()
        with stage.watching() as seen:
            session.execute(update(User).where(User.id == 1).values(name="after"))
            session.commit()
        assert seen.servers == ["replica-1"]
        assert stage.router.primary_engine() is not reader
        assert reader.pool.checkedin() == 0
    finally:
        stage.close()
