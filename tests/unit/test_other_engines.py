"""Oracle, SQL Server and whatever else SQLAlchemy talks to: which statements may go to a replica.

Each construct is compiled by the engine's own dialect besides: what is judged is what the server would get.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    DDL,
    Column,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import mssql, oracle
from sqlalchemy.sql.base import Executable

from rds_router import Kind, classify

metadata = MetaData()
posts = Table("posts", metadata, Column("id", Integer, primary_key=True), Column("title", String(80)))
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("post_id", Integer))
COMPILED: dict[str, Any] = {"oracle": oracle.dialect(), "mssql": mssql.dialect()}

READS: dict[str, Executable] = {
    "all": select(posts),
    "where": select(posts.c.title).where(posts.c.id == bindparam("id")),
    "join": select(posts).join(notes, posts.c.id == notes.c.post_id),
    "aggregate": select(func.count(), func.max(posts.c.id)).group_by(posts.c.title),
    "page": select(posts).order_by(posts.c.id).limit(10).offset(20),
    "subquery": select(posts).where(exists().where(notes.c.post_id == posts.c.id)),
    "cte": select(select(posts.c.id).cte("newest").c.id),
    "union": select(posts.c.id).union_all(select(notes.c.id)),
    "case": select(case((posts.c.id > 1, "many"), else_="one")),
    "functions": select(func.upper(posts.c.title), func.coalesce(posts.c.title, "none")),
}
NOT_READS: dict[str, tuple[Executable, Kind]] = {
    "insert": (insert(posts).values(id=1), Kind.WRITE),
    "insert from select": (insert(posts).from_select(["id"], select(notes.c.id)), Kind.WRITE),
    "update": (update(posts).values(title="x"), Kind.WRITE),
    "delete": (delete(posts), Kind.WRITE),
    "locking": (select(posts).with_for_update(), Kind.LOCKING_READ),
    "locking, nowait, of": (select(posts).with_for_update(nowait=True, of=posts.c.id), Kind.LOCKING_READ),
    "locking in a subquery": (select(select(posts).with_for_update().subquery()), Kind.LOCKING_READ),
    "sequence": (select(Sequence("seq").next_value()), Kind.WRITE),
    "a function that is not known": (select(func.dbms_lock.request("a")), Kind.UNKNOWN),
    "a table hint": (select(posts).with_hint(posts, "WITH (UPDLOCK, HOLDLOCK)"), Kind.UNKNOWN),
    "a statement hint": (select(posts).with_statement_hint("OPTION (RECOMPILE)"), Kind.UNKNOWN),
    "ddl": (DDL("ALTER TABLE posts ADD x INT"), Kind.DDL),
    "a text column": (select(literal_column("package.procedure")), Kind.UNKNOWN),
    "a suffix": (select(posts).suffix_with("FOR UPDATE"), Kind.LOCKING_READ),
}


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", READS)
def test_a_construct_that_only_reads_may_go_to_a_replica(engine: str, name: str) -> None:
    sql = str(READS[name].compile(dialect=COMPILED[engine]))  # type: ignore[attr-defined]
    assert sql.startswith(("SELECT", "WITH"))
    verdict = classify(READS[name], dialect=engine)
    assert (verdict.kind, verdict.because) == (Kind.READ, "")


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", NOT_READS)
def test_all_else_goes_to_the_primary(engine: str, name: str) -> None:
    clause, kind = NOT_READS[name]
    assert classify(clause, dialect=engine).kind is kind


TEXTS = (
    "SELECT id FROM posts",
    "SELECT next_invoice FROM dual",  # Oracle: perhaps a function that writes in a transaction of its own
    "SELECT 1 SHUTDOWN",  # SQL Server: two statements
    "SELECT 1 EXEC sp_rename 'a', 'b'",
    "SELECT id FROM posts DELETE FROM posts",
    "SELECT * FROM posts WITH (UPDLOCK)",
    "SELECT * FROM #mine",
    "SELECT seq.NEXTVAL FROM dual",
    "SELECT NEXT VALUE FOR seq",
    "SELECT id INTO #mine FROM posts",
    "SELECT id FROM posts FOR UPDATE WAIT 5",
    "SELECT * FROM OPENQUERY(other, 'DELETE FROM t')",
    "MERGE INTO posts USING notes ON (posts.id = notes.post_id) WHEN MATCHED THEN UPDATE SET title = 'x'",
    "BEGIN do_it; END;",
    "EXEC do_it",
    "LOCK TABLE posts IN EXCLUSIVE MODE",
    "EXPLAIN PLAN FOR SELECT id FROM posts",
    "INSERT ALL INTO posts VALUES (1, 'a') SELECT * FROM dual",
    "WITH FUNCTION f RETURN NUMBER IS BEGIN RETURN 1; END; SELECT f FROM dual",
    "ALTER SESSION SET NLS_DATE_FORMAT = 'YYYY'",
    "SET IDENTITY_INSERT posts ON",
    "USE other",
    "DBCC FREEPROCCACHE",
)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("sql", TEXTS)
def test_text_is_never_taken_for_a_read(engine: str, sql: str) -> None:
    """Nobody here reads PL/SQL or T-SQL by their own grammar, so nobody can be sure."""
    assert not classify(sql, dialect=engine).is_read
    assert not classify(text(sql), dialect=engine).is_read


def test_what_is_rendered_for_one_engine_alone_is_not_overlooked() -> None:
    """SQLAlchemy adds such a hint, or suffix, only for the dialect that it names."""
    hinted = select(posts).with_hint(posts, "WITH (UPDLOCK)", "mssql")
    assert "UPDLOCK" in str(hinted.compile(dialect=COMPILED["mssql"]))
    assert not classify(hinted, dialect="mssql").is_read
    assert not classify(hinted, dialect="generic").is_read  # nobody said which engine it is
    assert classify(hinted, dialect="oracle").is_read
    assert classify(hinted, dialect="postgresql").is_read
    locking = select(posts).suffix_with("FOR UPDATE", dialect="oracle")
    assert "FOR UPDATE" in str(locking.compile(dialect=COMPILED["oracle"]))
    assert classify(locking, dialect="oracle").kind is Kind.LOCKING_READ
    assert classify(locking, dialect="generic").kind is Kind.LOCKING_READ


def test_a_temporary_table_of_sql_server_is_its_sessions_own() -> None:
    for name in ("#mine", "##everybodys"):
        assert classify(select(table(name, column("id"))), dialect="mssql").kind is Kind.SESSION
