"""Lines 1 to 8: statements that other routers send to a replica, or keep from one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, func, insert, select, text, union, update
from sqlalchemy.exc import DBAPIError

from rds_router import Kind, classify
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage, copy_file

FAMILIES = ("mysql", "mariadb", "postgresql")


def is_read(sql: str, *families: str) -> set[bool]:
    """The verdicts of these engine families, all of them by default."""
    return {classify(sql, dialect=family).is_read for family in families or FAMILIES}


# --- 1


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO rt_user (id, name) VALUES (11, 'eva')",
        "UPDATE rt_user SET name = 'x' WHERE id = 1",
        "SET @a = 1",
        "CALL rt_anything()",
        "CREATE TABLE rt_made (id INTEGER)",
        "SELECT GET_LOCK('a', 0)",
        "WITH gone AS (DELETE FROM rt_user RETURNING id) SELECT id FROM gone",
    ],
)
def test_01_text_that_changes_something_does_not_go_to_a_replica(stage: Stage, sql: str) -> None:
    """Text INSERT, UPDATE, SET, CALL, DDL, GET_LOCK() and DML in a CTE: on the primary, successful or not."""
    session = stage.session()
    session.scalar(select(User.id))
    with stage.watching() as seen:
        with suppress(DBAPIError):  # not this engine's words: the primary was asked all the same
            session.execute(text(sql))
        session.rollback()
    assert seen.parts == ["primary"]
    with stage.router.primary.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS rt_made"))


def test_01_dml_on_session_connection(stage: Stage) -> None:
    """session.connection() asks without a statement; DML run on it is invisible to a router."""
    session = stage.session()
    session.scalar(select(User.id))
    with stage.watching() as seen:
        session.connection().execute(insert(users).values(id=11, name="eva"))
        assert len(session.scalars(select(User.id)).all()) == 4
    assert seen.parts == ["primary", "primary"]


def test_01_get_lock_is_held_on_the_primary(on_mariadb: MakeStage) -> None:
    """A lock taken on a replica excludes nobody."""
    stage = on_mariadb()
    session = stage.session()
    with stage.watching() as seen:
        assert session.scalar(select(func.get_lock("rt_lock", 0))) == 1
        assert stage.on_server(0, "SELECT IS_FREE_LOCK('rt_lock')") == 0
        session.scalar(select(func.release_lock("rt_lock")))
    assert seen.parts == ["primary", "primary"]


# --- 2


@pytest.mark.parametrize("kind", ["insert", "update"])
def test_02_orm_bulk_lists_run_on_the_primary(stage: Stage, kind: str) -> None:
    """The second get_bind of a bulk list has no clause; it decides where the SQL runs."""
    session = stage.session()
    with stage.watching() as seen:
        if kind == "insert":
            session.execute(insert(User), [{"id": 11, "name": "eva"}, {"id": 12, "name": "fay"}])
        else:
            session.execute(update(User), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
        session.commit()
    assert set(seen.parts) == {"primary"}


# --- 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM (SELECT id FROM rt_user FOR UPDATE) AS x",
        "(SELECT id FROM rt_user FOR UPDATE)",
        "SELECT id FROM rt_user FOR UPDATE SKIP LOCKED",
        "SELECT id FROM rt_user FOR UPDATE; -- end",
        "SELECT id FROM rt_user FOR SHARE",
        "SELECT id FROM rt_user FOR UPDATE LIMIT 1",
        "WITH x AS (SELECT id FROM rt_user FOR UPDATE) SELECT * FROM x",
        "SELECT 1 WHERE EXISTS (SELECT id FROM rt_user FOR UPDATE)",
    ],
)
def test_03_a_lock_anywhere_in_the_text_is_seen(sql: str) -> None:
    """FOR UPDATE and FOR SHARE in a subquery, in parentheses, before the end."""
    assert is_read(sql) == {False}


def test_03_lock_in_share_mode_is_seen() -> None:
    assert is_read("(SELECT id FROM t LOCK IN SHARE MODE)", "mysql", "mariadb") == {False}


@pytest.mark.parametrize("where", ["subquery", "cte", "union", "exists", "scalar"])
def test_03_a_lock_anywhere_in_a_construct_is_seen(stage: Stage, where: str) -> None:
    locked = select(users.c.id).with_for_update()
    statements: dict[str, Callable[[], Any]] = {
        "subquery": lambda: select(locked.subquery()),
        "cte": lambda: select(locked.cte()),
        "union": lambda: union(select(users.c.id), locked),
        "exists": lambda: select(users.c.id).where(locked.exists()),
        "scalar": lambda: select(locked.limit(1).scalar_subquery()),
    }
    statement = statements[where]()
    assert stage.router.judge(statement).kind is Kind.LOCKING_READ
    assert stage.session().get_bind(clause=statement) is stage.router.primary_engine()


# --- 4


@pytest.mark.parametrize(
    ("sql", "families"),
    [
        ("SELECT id INTO OUTFILE '/tmp/x' FROM t", ("mysql", "mariadb")),
        ("SELECT id FROM t INTO @a", ("mysql", "mariadb")),
        ("SELECT id INTO made FROM t", ("postgresql",)),
        ("COPY (SELECT id FROM t FOR UPDATE) TO STDOUT", ("postgresql",)),
        ("COPY t FROM STDIN", ("postgresql",)),
        ("SELECT currval('s')", ("postgresql",)),
        ("SELECT lastval()", ("postgresql",)),
        ("SELECT nextval('s')", ("postgresql",)),
        ("SELECT pg_notify('a', 'b')", ("postgresql",)),
        ("SELECT lo_import('/etc/passwd')", ("postgresql",)),
        ("SELECT lo_unlink(1)", ("postgresql",)),
        ("SELECT * FROM (WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d) AS x", ("postgresql",)),
        ("SELECT 1 UNION ALL (WITH d AS (UPDATE t SET a = 1 RETURNING 1) SELECT * FROM d)", ("postgresql",)),
    ],
)
def test_04_select_into_copy_and_functions_with_effects(sql: str, families: tuple[str, ...]) -> None:
    """SELECT .. INTO, COPY of a locking read, sequences, pg_notify, large objects, DML in a CTE below the top."""
    assert is_read(sql, *families) == {False}


# --- 5


@pytest.mark.parametrize(
    "sql", ["SELECT 1; DELETE FROM t", "SELECT 1;;DELETE FROM t", "SELECT 1; -- x\nSELECT 2 FOR UPDATE"]
)
def test_05_every_statement_of_a_batch_counts(sql: str) -> None:
    assert is_read(sql) == {False}


@pytest.mark.parametrize(
    ("sql", "families", "read"),
    [
        ("/* DELETE */ SELECT 1", FAMILIES, True),
        ("-- DELETE\nSELECT 1", FAMILIES, True),
        ("# DELETE\nSELECT 1", ("mysql", "mariadb"), True),
        ("/*!50000 DELETE FROM t */", ("mysql", "mariadb"), False),
        ("SELECT 1 /*! FOR UPDATE */", ("mysql", "mariadb"), False),
        ("SELECT 1 /*M! FOR UPDATE */", ("mariadb",), False),
        ("SELECT 'a\\'; DELETE FROM t; -- '", ("postgresql",), False),
        # One string, or under NO_BACKSLASH_ESCAPES a DELETE: the server's setting is not known here.
        ("SELECT 'a\\'; DELETE FROM t; -- '", ("mysql", "mariadb"), False),
        ("SELECT 'it\\'s; a \\n note'", ("mysql", "mariadb"), True),
        ("SELECT $$; DELETE FROM t; $$", ("postgresql",), True),
        ("SELECT $a$ ' $a$; DELETE FROM t; --'", ("postgresql",), False),
        ("/* /* */ DELETE FROM t; /* */ */ SELECT 1", ("postgresql",), True),
    ],
)
def test_05_comments_and_quotes_by_each_engines_own_rules(sql: str, families: tuple[str, ...], read: bool) -> None:
    """Leading comments, versioned comments, # and --, backslashes, dollar quotes, nested comments."""
    assert is_read(sql, *families) == {read}


# --- 6


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT created, updated_at, deleted FROM t",
        "SELECT 'for update' AS insert_note FROM t",
        "SELECT t.update_count FROM t WHERE note = 'DELETE FROM x; DROP TABLE y'",
        "SELECT id FROM orders WHERE status = 'lock in share mode'",
    ],
)
def test_06_words_in_names_and_literals_are_no_writes(stage: Stage, sql: str) -> None:
    assert is_read(sql) == {True}
    assert stage.router.judge(text(sql)).is_read


def test_06_statement_hints_and_suffixes_are_looked_at(stage: Stage) -> None:
    assert not stage.router.judge(select(users).with_statement_hint("FOR UPDATE")).is_read
    assert not stage.router.judge(select(users).suffix_with("FOR UPDATE")).is_read
    assert stage.router.judge(select(users).where(users.c.name == "for update")).is_read


# --- 7


@pytest.mark.parametrize(
    ("sql", "families"),
    [
        ("SELECT id FROM t LOCK IN SHARE MODE", ("mysql", "mariadb")),
        ("SELECT GET_LOCK('a', 1)", ("mysql", "mariadb")),
        ("SELECT RELEASE_LOCK('a')", ("mysql", "mariadb")),
        ("SELECT RELEASE_ALL_LOCKS()", ("mysql", "mariadb")),
        ("SELECT IS_USED_LOCK('a')", ("mysql", "mariadb")),
        ("SELECT LAST_INSERT_ID()", ("mysql", "mariadb")),
        ("SELECT LAST_INSERT_ID(5)", ("mysql", "mariadb")),
        ("SELECT @@identity", ("mysql", "mariadb")),
        ("SELECT @@last_insert_id", ("mysql", "mariadb")),
        ("SELECT LASTVAL(s)", ("mariadb",)),
        ("XA START 'a'", ("mysql", "mariadb")),
        ("SELECT @a := 1", ("mysql", "mariadb")),
        ("SELECT FOUND_ROWS()", ("mysql", "mariadb")),
        ("SELECT ROW_COUNT()", ("mysql", "mariadb")),
        ("HANDLER t OPEN", ("mysql", "mariadb")),
        ("CREATE TEMPORARY TABLE t (id INT)", FAMILIES),
        ("SELECT pg_advisory_lock(1)", ("postgresql",)),
        ("SELECT pg_try_advisory_xact_lock(1)", ("postgresql",)),
        ("SELECT set_config('a.b', 'c', false)", ("postgresql",)),
        ("SELECT pg_export_snapshot()", ("postgresql",)),
    ],
)
def test_07_what_a_read_only_server_runs_without_an_error_is_known_by_name(sql: str, families: tuple[str, ...]) -> None:
    assert is_read(sql, *families) == {False}


def test_07_a_definers_procedure_cannot_write_on_a_guarded_replica(on_mariadb: MakeStage) -> None:
    """With plain read_only=1 a DEFINER=root function writes on the replica; the read-only session refuses it."""
    stage = on_mariadb(policy={"pure_functions": ["rt_sneak"]})
    assert stage.cluster is not None
    root = create_engine(stage.cluster.primary.admin_url, connect_args={"ssl_disabled": True})
    try:
        with root.begin() as connection:
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS rt_sneak")
            connection.exec_driver_sql(
                "CREATE FUNCTION rt_sneak(n INT) RETURNS INT MODIFIES SQL DATA SQL SECURITY DEFINER "
                "BEGIN INSERT INTO rt_user (id, name) VALUES (n, 'sneaked'); RETURN n; END"
            )
        stage.cluster.wait_caught_up()
        session = stage.session()
        with stage.watching() as seen:
            assert session.scalar(text("SELECT rt_sneak(11)")) == 11
            session.commit()
        assert seen.parts == ["replica", "primary"]
        assert stage.router.events.counts["Healed"] == 1
        stage.cluster.wait_caught_up()
        assert [stage.on_server(number, "SELECT count(*) FROM rt_user WHERE id = 11") for number in range(3)] == [1] * 3
    finally:
        with root.begin() as connection:
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS rt_sneak")
        root.dispose()


# --- 8


def test_08_replica_connections_are_read_only_sessions(stage: Stage) -> None:
    """A write that gets there by any way is refused by the server."""
    engine = stage.session().get_bind(clause=select(User.id))
    with engine.connect() as connection:  # type: ignore[union-attr]  # no Connection here
        with pytest.raises(DBAPIError):
            connection.execute(insert(users).values(id=11, name="eva"))
        connection.rollback()
        assert len(connection.execute(select(users)).all()) == 3


def test_08_the_guard_outlives_the_connection_it_was_set_on(stage: Stage) -> None:
    """Also a connection that replaces a broken one is guarded, and one that was returned and taken again."""
    engine: Any = stage.session().get_bind(clause=select(User.id))
    for _ in range(3):
        with engine.connect() as connection:
            with pytest.raises(DBAPIError):
                connection.execute(insert(users).values(id=11, name="eva"))
            connection.invalidate()


def test_08_without_the_guard_the_server_is_on_its_own(on_sqlite: MakeStage) -> None:
    """guard=False is the user's choice, and does what it says: SQLite files refuse nobody."""
    stage = on_sqlite(policy={"guard": False})
    engine: Any = stage.session().get_bind(clause=select(User.id))
    with engine.connect() as connection:
        connection.execute(insert(users).values(id=11, name="stray"))
    paths = [url.removeprefix("sqlite:///") for url in stage.urls]
    counts = [stage.on_server(number, "SELECT count(*) FROM rt_user") for number in range(3)]
    assert sorted(counts) == [3, 3, 4]
    for path in paths[1:]:
        copy_file(paths[0], path)  # type: ignore[arg-type]
