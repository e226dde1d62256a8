"""What is written without a session, on an engine of the primary, its author's sessions do not read behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from rds_router import Router, RoutingSession, token_router
from rds_router.engine_writes import ListeningConnection, _first_word
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage

COUNT = select(func.count()).select_from(User)
NEW = {"id": 901, "name": "new"}
SQL = "INSERT INTO rt_user (id, name) VALUES (901, 'new')"


def _begin(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(users).values(**NEW))


def _text(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text(SQL))
        connection.commit()


def _driver(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(SQL)


def _autocommit(engine: Engine) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(insert(users).values(**NEW))


def _connection_in_autocommit(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(SQL)


def _session(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(User(**NEW))
        session.commit()


def _session_on_connection(engine: Engine) -> None:
    with engine.connect() as connection, Session(connection) as session:
        session.add(User(**NEW))
        session.commit()


WAYS = [_begin, _text, _driver, _autocommit, _connection_in_autocommit, _session, _session_on_connection]


@pytest.mark.parametrize("real", [False, True], ids=["router.primary", "the real engine"])
@pytest.mark.parametrize("write", WAYS)
def test_what_an_engine_wrote_is_read(on_sqlite: MakeStage, write: Callable[[Engine], None], real: bool) -> None:
    """By a session that reads on a replica in an open transaction, by a new one, and by router.reader."""
    stage = on_sqlite()
    session = stage.session()
    before = session.scalar(COUNT)
    write(stage.router.primary_engine() if real else stage.router.primary)
    assert session.token is not None
    with stage.watching() as seen, stage.router.reader.connect() as reader:
        assert session.scalar(COUNT) == before + 1
        assert stage.session().scalar(COUNT) == before + 1
        assert reader.scalar(COUNT) == before + 1
    assert "replica" not in {ran.part for ran in seen.statements[:2]}


@pytest.mark.parametrize("ends", ["commit", "close"])
def test_a_raw_connection_counts_as_one_that_wrote(on_sqlite: MakeStage, ends: str) -> None:
    """By its COMMIT, before it is closed; what it does in autocommit, by its end."""
    stage = on_sqlite()
    session = stage.session()
    before = session.scalar(COUNT)
    raw = stage.router.primary.raw_connection()
    raw.cursor().execute(SQL)
    if ends == "commit":
        raw.commit()
    else:
        raw.dbapi_connection.commit()  # type: ignore[union-attr]
        raw.close()
    assert session.scalar(COUNT) == before + 1
    raw.close() if ends == "commit" else None
    assert stage.router._engines.in_use("primary", "primary") == session.in_transaction()


def test_what_only_read_or_was_rolled_back_is_no_write(on_sqlite: MakeStage) -> None:
    stage = on_sqlite()
    with stage.router.primary.begin() as connection:
        connection.execute(COUNT)
        connection.exec_driver_sql("SELECT 1")
    with stage.router.primary.connect() as connection:
        connection.execute(insert(users).values(**NEW))
        connection.rollback()
        connection.execute(COUNT)
        connection.commit()
    with stage.router.primary.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SELECT count(*) FROM rt_user"))
    assert stage.router.written_here() is None
    stage.forget()
    stage.session().scalar(COUNT)
    assert stage.record.parts == ["replica"]


@pytest.mark.parametrize("sql", ["CREATE TABLE rt_other (id INTEGER)", "COMMIT", SQL])
def test_what_may_commit_by_itself_counts_before_its_commit(on_sqlite: MakeStage, sql: str) -> None:
    """A rollback afterwards need not undo it. An INSERT alone waits for the COMMIT."""
    stage = on_sqlite()
    with stage.router.primary.connect() as connection:
        if sql == "COMMIT":
            connection.execute(insert(users).values(**NEW))
        connection.execute(text(sql))
        connection.rollback()
    assert (stage.router.written_here() is None) == sql.startswith("INSERT")


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("INSERT INTO t VALUES (1);", "insert"),
        ("INSERT INTO t VALUES (1); COMMIT", ""),
        ("  select f()", "select"),
        ("CALL p()", "call"),
        ("EXECUTE s", "execute"),
        ("", ""),
        (text("update t set a = 1"), "update"),
        (select(users), "select"),
        (insert(users), "update"),
        (CreateTable(users), ""),
    ],
)
def test_the_first_word_tells_what_cannot_commit(sql: Any, word: str) -> None:
    assert _first_word(sql) == word


def test_to_ask_for_a_position_is_no_write(on_sqlite: MakeStage) -> None:
    """Though no read by its looks: else each look at a token would ask for another one."""
    stage = on_sqlite()
    _begin(stage.router.primary)
    note = stage.router.last_note
    assert stage.session().token is not None
    assert stage.router.last_note is note


def test_a_commit_that_failed_may_have_been_made(on_sqlite: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = on_sqlite()

    def fail(connection: Any) -> None:
        raise LookupError("the answer is lost")

    with stage.router.primary.connect() as connection:
        connection.execute(insert(users).values(**NEW))
        monkeypatch.setattr(connection.engine.dialect, "do_commit", fail)
        with pytest.raises(LookupError):
            connection.commit()
        monkeypatch.undo()
    assert stage.router.written_here() is not None


def test_it_is_its_authors_task_alone(on_sqlite: MakeStage) -> None:
    """Another thread's sessions, and those of another router, read where they did."""
    stage = on_sqlite()
    other = threading.Thread(target=_begin, args=(stage.router.primary,))
    other.start()
    other.join()
    stage.forget()
    stage.session().scalar(COUNT)
    assert stage.record.parts == ["replica"]


def test_a_sessions_own_commit_is_its_own(on_sqlite: MakeStage) -> None:
    """R5: it changes no other session, and its connection is an ordinary one: its statements cost nothing here."""
    stage = on_sqlite()
    session = stage.session()
    session.add(User(**NEW))
    session.flush()
    assert type(session.connection()) is Connection
    session.commit()
    assert stage.router.written_here() is None
    with stage.router.primary.connect() as connection:
        assert type(connection) is ListeningConnection


def test_where_nothing_is_promised_nothing_listens(on_sqlite: MakeStage) -> None:
    """Without replicas, and under after_write="any"."""
    for options in ({"replicas": 0}, {"policy": {"after_write": "any"}}):
        with closing(on_sqlite(**options)) as stage, stage.router.primary.connect() as connection:
            assert type(connection) is Connection


def test_one_token_a_router_is_kept_and_none_of_one_that_is_gone(on_sqlite: MakeStage) -> None:
    stage = on_sqlite()
    for number in range(910, 915):
        with stage.router.primary.begin() as connection:
            connection.execute(insert(users).values(id=number, name="x"))
    mine = [each for each in token_router._noted.get() if each[0]() is stage.router]
    assert len(mine) == 1
    gone = Router("sqlite:///a.db", "sqlite:///b.db")
    gone.note_write(None, None)
    found = weakref.ref(gone)
    gone.close()
    del gone
    gc.collect()
    assert found() is None
    stage.router.note_write(None, None)
    kept = [each[0]() for each in token_router._noted.get()]
    assert (kept.count(stage.router), kept.count(None)) == (1, 0)  # type: ignore[arg-type]


def test_a_position_is_told_with_the_commit(stage: Stage) -> None:
    """On real servers, with one round trip less; a token by time where positions are not told. Then it is read."""
    session = stage.session(RoutingSession)
    before = session.scalar(COUNT)
    _begin(stage.router.primary)
    written = stage.router.written_here()
    assert written is not None
    assert (written.position is not None) == (stage.cluster is not None and not stage.is_proxied)
    assert session.scalar(COUNT) == before + 1  # type: ignore[operator]
    assert stage.session().scalar(COUNT) == before + 1  # type: ignore[operator]
