"""R7: whoever says himself where a statement goes is obeyed, and routing does not touch it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from rds_router import RoutingSession
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Record, Stage, record

A_READ = select(User.name).where(User.id == 1)


class OtherBase(DeclarativeBase):
    pass


class Note(OtherBase):
    """Lives in a database of its own."""

    __tablename__ = "rt_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Engine]:
    """Another database, with the notes and with users of its own."""
    # No pool: the session that holds a connection of it is closed after this fixture.
    engine = create_engine(f"sqlite:///{tmp_path / 'elsewhere.sqlite'}", poolclass=NullPool)
    OtherBase.metadata.create_all(engine)
    User.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(users).values(id=1, name="stranger"))
    yield engine
    engine.dispose()


def test_r7_bind_arguments_with_a_bind(stage: Stage, elsewhere: Engine) -> None:
    """In every kind of call, for reads and writes, and without an effect on what follows."""
    session = stage.session()
    there: Any = {"bind": elsewhere}
    with stage.watching() as seen:
        assert session.scalar(A_READ, bind_arguments=there) == "stranger"
        assert session.execute(A_READ, bind_arguments=there).scalar() == "stranger"
        assert session.scalars(A_READ, bind_arguments=there).one() == "stranger"
        assert session.get_one(User, 1, bind_arguments=there).name == "stranger"
        session.execute(insert(users).values(id=2, name="guest"), bind_arguments=there)
        session.connection(bind_arguments=there).execute(text("SELECT 1"))
    assert seen == []
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "ann"
    assert seen.parts == ["replica"]


def test_r7_bind_arguments_with_the_primary_or_a_replica(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        session.scalar(A_READ, bind_arguments={"bind": stage.router.primary_engine()})
        session.scalar(A_READ)
    assert seen.parts == ["primary", "replica"]


def test_r7_a_session_bound_to_an_engine_is_a_plain_session(stage: Stage, elsewhere: Engine) -> None:
    session = stage.session(bind=elsewhere)
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "stranger"
        session.execute(insert(users).values(id=2, name="guest"))
        session.commit()
    assert seen == []
    assert session.token is None


def test_r7_a_session_joined_into_an_external_transaction(stage: Stage) -> None:
    """SQLAlchemy's recipe for test suites: all on one connection, all undone at the end."""
    with stage.router.primary.connect() as connection:
        outer = connection.begin()
        if stage.is_sqlite:
            connection.exec_driver_sql("BEGIN")  # sqlite3 itself begins too late for savepoints
        maker = sessionmaker(class_=RoutingSession, router=stage.router)
        session = maker(bind=connection, join_transaction_mode="create_savepoint")
        with stage.watching() as seen:
            session.add(User(id=11, name="eva"))
            session.commit()
            assert session.scalar(select(User.name).where(User.id == 11)) == "eva"
            session.rollback()
            with session.begin_nested():
                session.add(User(id=12, name="fay"))
            session.close()
        assert set(seen.parts) == {"primary"}
        outer.rollback()
    assert stage.on_server(0, "SELECT count(*) FROM rt_user") == 3


def test_r7_binds_for_some_mappers(stage: Stage, elsewhere: Engine) -> None:
    """What has a bind of its own goes there, all else is routed."""
    seen_there = Record()
    record(elsewhere, seen_there)
    session = stage.session(binds={Note: elsewhere})
    with stage.watching() as seen:
        session.add(Note(id=1, body="b"))
        session.flush()
        assert session.scalars(select(Note)).one().body == "b"
        assert session.scalar(A_READ) == "ann"
        session.commit()
    assert seen.parts == ["replica"]
    assert len(seen_there.statements) == 2


@pytest.mark.parametrize("bound", ["mapper", "table", "base"])
def test_r7_bind_mapper_and_bind_table(stage: Stage, elsewhere: Engine, bound: str) -> None:
    session = stage.session()
    if bound == "mapper":
        session.bind_mapper(Note, elsewhere)
    elif bound == "table":
        session.bind_table(Note.__table__, elsewhere)
    else:
        session.bind_mapper(OtherBase, elsewhere)
    with stage.watching() as seen:
        session.execute(insert(Note).values(id=1, body="b"))
        assert session.scalars(select(Note)).one().body == "b"
        assert session.scalar(A_READ) == "ann"
    assert seen.parts == ["replica"]


def test_r7_get_bind_overridden_by_a_subclass(stage: Stage, elsewhere: Engine) -> None:
    class Mine(RoutingSession):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
            if mapper is not None and issubclass(mapper.class_, OtherBase):
                return elsewhere
            return super().get_bind(mapper, clause=clause, **options)

    session = stage.session(Mine)
    with stage.watching() as seen:
        session.add(Note(id=1, body="b"))
        session.commit()
        assert session.scalar(A_READ) == "ann"
    assert seen.parts == ["replica"]


def test_r7_without_a_router_it_is_a_plain_session(elsewhere: Engine) -> None:
    from sqlalchemy.exc import UnboundExecutionError

    with RoutingSession(elsewhere) as session:
        assert session.scalar(A_READ) == "stranger"
        with session.using_primary(), session.begin_nested():
            assert session.scalar(A_READ) == "stranger"
        assert session.token is None
    with RoutingSession() as session, pytest.raises(UnboundExecutionError):
        session.scalar(A_READ)


def test_router_primary_and_reader_are_engine_like(stage: Stage) -> None:
    """For whatever takes an Engine: DDL, inspection, pandas, a Session of somebody else's."""
    from sqlalchemy import inspect

    User.metadata.create_all(stage.router.primary)
    assert "rt_user" in inspect(stage.router.primary).get_table_names()
    assert "rt_user" in inspect(stage.router.reader).get_table_names()
    with stage.watching() as seen:
        with stage.router.primary.begin() as connection:
            connection.execute(insert(users).values(id=11, name="eva"))
        with stage.router.reader.connect() as connection:
            connection.execute(A_READ).all()
        with Session(stage.router.primary) as session:
            session.add(User(id=12, name="fay"))
            session.commit()
    assert seen.parts == ["primary", "replica", "primary"]
    assert stage.router.primary.url == stage.router.primary_engine().url
    assert repr(stage.router.reader) == "<RoutedEngine reader>"


def test_pandas_reads_from_a_replica(stage: Stage) -> None:
    pandas = pytest.importorskip("pandas")
    with stage.watching() as seen:
        frame = pandas.read_sql(select(users), stage.router.reader)
        frame.head(1).assign(id=11).to_sql("rt_user", stage.router.primary, if_exists="append", index=False)
    assert len(frame) == 3
    assert {ran.part for ran in seen if ran.sql.startswith("INSERT")} == {"primary"}
    assert [ran.part for ran in seen if ran.sql.startswith("SELECT rt_user")] == ["replica"]


def test_make_stage_takes_listeners_of_the_users(make_stage: MakeStage) -> None:
    """Event listeners on the real engines see every statement, on whichever server."""
    stage = make_stage()
    heard: list[str] = []
    for engine in (stage.router.primary_engine(), stage.session().get_bind(clause=A_READ)):
        event.listen(engine, "before_cursor_execute", lambda *arguments: heard.append(arguments[2]))
    for _ in range(10):
        stage.session().scalar(A_READ)
    stage.session().execute(A_READ.with_for_update()).all()
    assert 2 <= len(heard) <= 11


@pytest.mark.parametrize("how", ["bind_mapper", "bind_table", "bind"])
def test_r7_a_bind_that_comes_after_the_first_reads(stage: Stage, elsewhere: Engine, how: str) -> None:
    """Where the transaction has read until then is forgotten for what is bound now."""
    session = stage.session()
    read = select(User.name).where(User.id == 1)
    for _ in range(2):
        assert session.scalar(read) == "ann"
    if how == "bind_mapper":
        session.bind_mapper(User, elsewhere)
    elif how == "bind_table":
        session.bind_table(users, elsewhere)
    else:
        session.bind = elsewhere
    with stage.watching() as seen:
        assert session.scalar(read) == "stranger"
    assert seen == []
