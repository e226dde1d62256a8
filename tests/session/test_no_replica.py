"""R8: with no replica configured a RoutingSession is a plain Session, call for call.

One long script runs on both; what reached the server, step by step, and every event the session told must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymysql.connections import Connection
from sqlalchemy import create_engine, event, insert, select, text, union, update
from sqlalchemy.engine import Result
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session, selectinload

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster
from tests.session.conftest import ENGINES, MakeStage
from tests.session.models import Post, User, users
from tests.session.stage import Record, Stage, make_files, record

SESSION_EVENTS = (
    "after_begin",
    "after_bulk_delete",
    "after_bulk_update",
    "after_commit",
    "after_flush",
    "after_flush_postexec",
    "after_rollback",
    "after_soft_rollback",
    "after_transaction_create",
    "after_transaction_end",
    "before_commit",
    "before_flush",
    "do_orm_execute",
    "loaded_as_persistent",
    "pending_to_persistent",
    "persistent_to_deleted",
    "transient_to_pending",
)


def reads(session: Session) -> Iterator[Any]:
    yield session.execute(select(User)).scalars().all()
    yield session.scalar(select(User.name).where(User.id == 1))
    yield session.get(User, 1)
    yield session.scalars(select(User).options(selectinload(User.posts))).all()
    yield session.execute(text("SELECT name FROM rt_user ORDER BY id")).all()
    yield session.execute(union(select(User.id), select(Post.id))).all()
    yield session.scalars(select(User).from_statement(text("SELECT id, name FROM rt_user"))).all()
    yield session.scalars(select(User).execution_options(yield_per=1)).all()
    yield session.query(User).filter_by(name="ann").one().posts
    yield session.scalars(select(User).with_for_update()).all()
    yield session.scalars(select(User), execution_options={"rds_route": "replica"}).all()
    session.commit()


def writes(session: Session) -> Iterator[Any]:
    session.add(User(id=11, name="eva"))
    session.flush()
    yield session.scalars(select(User.name)).all()
    yield session.execute(insert(User), [{"id": 12, "name": "fay"}, {"id": 13, "name": "gus"}])
    yield session.execute(update(User).where(User.id == 12).values(name="f"), {"synchronize_session": "fetch"})
    yield session.execute(update(User), [{"id": 13, "name": "g"}])
    yield session.execute(text("UPDATE rt_user SET name = 'e' WHERE id = 11"))
    yield session.merge(User(id=12, name="merged"))
    yield session.merge(Post(id=99, user_id=1, title="new"))
    session.bulk_insert_mappings(User, [{"id": 14, "name": "hal"}])
    session.bulk_save_objects([User(id=15, name="ida")])
    session.commit()
    user = session.get_one(User, 11)
    session.refresh(user)
    session.expire(user)
    yield user.name
    session.delete(user)
    session.commit()
    yield session.connection().execute(insert(users).values(id=16, name="jan"))
    yield session.scalar(select(User.name).where(User.id == 16))
    session.rollback()


def transactions(session: Session) -> Iterator[Any]:
    with session.begin():
        session.add(User(id=21, name="kim"))
    with session.begin():
        yield session.scalar(select(User.name).where(User.id == 21))
        with session.begin_nested():
            session.add(User(id=22, name="leo"))
        with suppress(IntegrityError), session.begin_nested():
            session.add(User(id=1, name="taken"))
        yield session.scalars(select(User.name).order_by(User.id)).all()
    with suppress(RuntimeError), session.begin():
        session.add(User(id=23, name="mia"))
        session.flush()
        raise RuntimeError
    session.add(User(id=1, name="taken"))
    with suppress(IntegrityError):
        session.flush()
    with suppress(InvalidRequestError):
        yield session.scalar(select(User.name))
    session.rollback()
    with suppress(DBAPIError):
        session.execute(text("SELECT no_such_column FROM rt_user"))
    session.rollback()
    yield session.in_transaction(), session.is_active
    yield session.scalars(select(User.name).order_by(User.id)).all()
    session.close()
    yield session.scalar(select(User.name).where(User.id == 1))
    session.reset()
    yield (
        session.get_bind().dialect.name,
        session.get_bind(User).dialect.name,
        session.get_bind(clause=users).engine.url,
    )


SCRIPTS = {script.__name__: script for script in (reads, writes, transactions)}


def trace(session: Session, script: Callable[[Session], Iterator[Any]], seen: Record) -> list[str]:
    """What the script yields, what the session tells and what the server hears, in one order."""
    begin = len(seen)
    told: list[str] = []

    def hear(name: str) -> Callable[..., None]:
        def heard(*arguments: Any) -> None:
            told.extend(str(ran) for ran in seen[begin + len([each for each in told if ": " in each]) :])
            told.append(name)

        return heard

    for name in SESSION_EVENTS:
        event.listen(session, name, hear(name))
    for value in script(session):
        told.append(f"-> {_plain(value)}")
    session.close()
    return told + [str(ran) for ran in seen[begin:]]


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (User, Post)):
        return type(value).__name__, value.__dict__.get("id"), value.__dict__.get("name")
    return type(value).__name__ if isinstance(value, Result) else value


@pytest.fixture(params=ENGINES)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """A seeded primary, twice: for one session and for the other."""
    if request.param == "sqlite":
        return lambda name: make_files(_made(tmp_path / name), count=1)[0]
    cluster: Cluster = request.getfixturevalue("mariadb_cluster")
    tables = request.getfixturevalue("mariadb_tables")
    request.getfixturevalue("mariadb_urls")
    from tests.session.conftest import reseed

    def seeded(name: str) -> str:
        reseed(cluster, tables)
        return cluster.primary.url

    return seeded


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_r8_call_for_call(urls: Callable[[str], str], name: str) -> None:
    """The same events in the same order, the same SQL, the same round trips, the same values."""
    script = SCRIPTS[name]
    plain, routed = Record(), Record()
    engine = create_engine(urls("plain"))
    record(engine, plain)
    with Session(engine) as session:
        expected = trace(session, script, plain)
    engine.dispose()
    router = Router(urls("routed"), on_engine=lambda made, server, part: record(made, routed))
    with router, RoutingSession(router=router) as session:
        found = trace(session, script, routed)
        assert not router._monitor.is_running
    assert [each.replace("/routed/", "/plain/") for each in found] == expected
    assert len(plain.statements) >= 8


def test_r8_no_replica_no_token(on_sqlite: Callable[..., Stage]) -> None:
    """Nothing to read behind, so nothing to remember, and no round trip to locate it."""
    stage = on_sqlite(replicas=0)
    session = stage.session()
    session.add(User(id=11, name="eva"))
    session.commit()
    assert session.token is None
    session.connection()
    session.commit()
    with stage.watching() as seen:
        assert session.token is None
    assert seen == []
    assert str(stage.router.explain(select(User))) == "primary (primary: no replica is configured)"


def test_r8_no_replica_also_means_no_thread(sqlite_urls: list[str]) -> None:
    import threading

    before = threading.active_count()
    with Router(sqlite_urls[0], policy=RoutingPolicy(probe_interval=0.05)) as router:
        assert router.refresh()
        with RoutingSession(router=router) as session:
            assert session.scalar(select(User.id).where(User.id == 1)) == 1
        assert threading.active_count() == before


@pytest.mark.parametrize(("kind", "trips"), [("routed", 2), ("plain", 4)])
def test_r8_routing_adds_no_round_trip(
    on_mariadb: MakeStage, monkeypatch: pytest.MonkeyPatch, kind: str, trips: int
) -> None:
    """Two reads and close(): two commands to the replica, where a plain session on the primary sends four."""
    stage = on_mariadb()
    sent: list[bytes] = []
    send = Connection._execute_command

    def counted(self: Any, command: int, sql: Any) -> None:
        sent.append(sql if isinstance(sql, bytes) else str(sql).encode())
        send(self, command, sql)

    def read_twice() -> None:
        made: Session = stage.session() if kind == "routed" else Session(stage.router.primary_engine())
        made.scalars(select(User.id)).all()
        made.scalars(select(User.name)).all()
        made.close()

    for _ in range(10):
        read_twice()  # both replicas have a connection now
    monkeypatch.setattr(Connection, "_execute_command", counted)
    read_twice()
    assert len(sent) == trips, sent
