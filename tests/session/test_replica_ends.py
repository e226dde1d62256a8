"""The end of a transaction that has read on a replica: nothing there needs a COMMIT, or can spoil it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from rds_router import Replica, Router, RoutingSession
from rds_router.servers import targets
from rds_router.testing import FixedServers, fixed_router, fixed_servers
from tests.session.conftest import MakeStage
from tests.session.models import User
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)
MODES = ["autocommit", "snapshot"]


def read_and_write(session: Session, *, number: int = 11) -> None:
    assert session.scalar(A_READ) == "ann"
    session.add(User(id=number, name="eva"))
    session.flush()


def by_commit(session: Session) -> None:
    read_and_write(session)
    session.commit()


def by_begin(session: Session) -> None:
    with session.begin():
        read_and_write(session)


def by_begin_with_a_savepoint(session: Session) -> None:
    with session.begin():
        assert session.scalar(A_READ) == "ann"
        with session.begin_nested():
            read_and_write(session)


def by_rollback(session: Session) -> None:
    read_and_write(session)
    session.rollback()


def by_close(session: Session) -> None:
    read_and_write(session)
    session.close()


WAYS = [by_commit, by_begin, by_begin_with_a_savepoint, by_rollback, by_close]


def breaks(stage: Stage) -> list[str]:
    """From now on no replica's transaction can be ended. What was tried, as it happens."""
    tried: list[str] = []

    def failing(step: str) -> Callable[[Any], None]:
        def fail(connection: Any) -> None:
            tried.append(step)
            raise sqlite3.OperationalError("disk I/O error")

        return fail

    for name in ("replica-1", "replica-2"):
        engine = stage.router.replica_engine(name)
        engine.connect().close()
        dialect: Any = engine.dialect
        dialect.do_commit, dialect.do_rollback = failing("COMMIT"), failing("ROLLBACK")
    return tried


@pytest.mark.parametrize("transactions", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_broken_replica_does_not_spoil_the_end(
    on_sqlite: MakeStage, way: Callable[[Session], None], transactions: str
) -> None:
    """Whichever way it ends: what was written stands or is undone, and the broken connection is thrown away."""
    stage = on_sqlite(policy={"replica_transactions": transactions})
    session = stage.session()
    tried = breaks(stage)
    with stage.watching() as seen:
        way(session)
    assert set(seen.parts) == {"replica", "primary"}
    is_written = way not in (by_rollback, by_close)
    assert stage.on_server(0, "SELECT count(*) FROM rt_user WHERE id = 11") == is_written
    assert "COMMIT" not in tried
    for engine in stage.router._engines._all():
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool has it


TOLD = (
    "before_commit",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "after_transaction_end",
    "after_flush",
)


def what_a_session_tells(session: Session, way: Callable[[Session], None]) -> list[str]:
    told: list[str] = []
    for name in TOLD:
        event.listen(session, name, lambda *_, name=name: told.append(name))
    way(session)
    told.append(f"in a transaction: {session.in_transaction()}")
    told.append(f"expired: {sorted(type(each).__name__ for each in session if not each.__dict__.get('name'))}")
    return told


@pytest.mark.parametrize("transactions", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_session_tells_of_its_end_is_what_sqlalchemys_tells(
    on_sqlite: MakeStage, way: Callable[[Session], None], transactions: str
) -> None:
    """The same events in the same order, and the same objects expire."""
    stage = on_sqlite(policy={"replica_transactions": transactions})
    ours = what_a_session_tells(stage.session(), way)
    stage.on_server(0, "DELETE FROM rt_user WHERE id = 11")
    with Session(stage.router.primary_engine()) as plain:
        assert ours == what_a_session_tells(plain, way)


@pytest.mark.parametrize(("transactions", "trips"), [("autocommit", 2), ("snapshot", 3)])
def test_how_many_round_trips_a_reading_session_takes(
    on_mariadb: MakeStage, transactions: str, trips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two reads and the commit: the reads; for a snapshot its end. A plain Session takes four."""
    stage = on_mariadb(policy={"replica_transactions": transactions})
    sent: list[Any] = []
    send = pymysql.connections.Connection._execute_command

    def count(connection: Any, command: int, sql: Any) -> Any:
        sent.append(sql)
        return send(connection, command, sql)

    def trips_of(session: Session) -> int:
        for _ in range(2):  # the first time connects
            sent.clear()
            session.scalar(A_READ)
            session.scalar(select(func.count()).select_from(User))
            session.commit()
        return len(sent)

    monkeypatch.setattr(pymysql.connections.Connection, "_execute_command", count)
    assert trips_of(stage.session()) == trips, sent
    with Session(stage.router.primary_engine()) as plain:
        assert trips_of(plain) == 4, sent


Change = Callable[[Router, FixedServers, str], None]


def promoted(router: Router, servers: FixedServers, name: str) -> None:
    servers.promotes(name)


def moved(router: Router, servers: FixedServers, name: str) -> None:
    urls = {each.server.name: router._engines.url(each.server.name) for each in router.topology.servers}
    other = {**urls, name: urls[name].set(query={"cache": "private", "uri": "true"})}
    router.relist(
        targets(Replica(other.pop("db"), name="db"), [Replica(url, name=each) for each, url in other.items()])
    )


@pytest.mark.parametrize("change", [promoted, moved])
def test_a_replica_that_changes_its_part_under_a_read(sqlite_urls: list[str], change: Change) -> None:
    """The connection that broke is taken out at once, though another engine leads to that server by now."""
    primary, *replicas = (Replica(url, name=name) for url, name in zip(sqlite_urls, ("db", "r1", "r2"), strict=True))
    with (
        fixed_router(primary, replicas) as router,
        fixed_servers(router) as servers,
        RoutingSession(router=router) as session,
    ):
        assert session.scalar(A_READ) == "ann"
        name = session._scope.pinned
        assert name is not None
        engine = router.replica_engine(name)

        def dies(*_: Any) -> None:
            change(router, servers, name)
            raise engine.dialect.loaded_dbapi.OperationalError("unable to open database file")

        engine.dialect.do_execute = dies  # type: ignore[method-assign]
        assert session.scalar(A_READ) == "ann"
        assert router.events.counts["ReadRetried"] == 1
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert name not in router._engines._engines["replica"]
        session.commit()
