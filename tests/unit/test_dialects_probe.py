"""How questions are asked and values read, and which dialect a URL belongs to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from rds_router.core.observation import Report, Role
from rds_router.core.position import Lsn, MySQLGtidSet, WallClock
from rds_router.dialects import (
    GENERIC,
    MARIADB,
    MYSQL,
    POSTGRESQL,
    SQLITE,
    Answers,
    Denied,
    Dialect,
    Query,
    Row,
    Verdict,
    dialect_for,
    run_probe,
)
from rds_router.dialects.reading import furthest, is_on, position_of, rows_of, seconds_of, text_of


@pytest.mark.parametrize(
    ("name", "version", "dialect"),
    [
        ("mysql", None, MYSQL),
        ("mysql+pymysql://app:secret@127.0.0.1:3306/blog", None, MYSQL),
        ("mysql+pymysql://app:secret@127.0.0.1:3306/blog", "9.7.4", MYSQL),
        ("mysql+mysqldb", "8.0.36-0ubuntu0.22.04.1", MYSQL),
        ("mysql+pymysql://app@db/blog", "10.11.19-MariaDB-0+deb12u1-log", MARIADB),
        ("mysql", "5.5.5-10.6.16-mariadb", MARIADB),
        ("mariadb+mariadbconnector://app@db/blog", None, MARIADB),
        ("mariadb", "11.4.2-custom", MARIADB),
        ("postgresql+psycopg://app@db/blog", "15.18", POSTGRESQL),
        ("PostgreSQL", None, POSTGRESQL),
        ("sqlite:///blog.db", None, SQLITE),
        ("sqlite+aiosqlite://", None, SQLITE),
        ("", None, GENERIC),
    ],
)
def test_dialect_for(name: str, version: str | None, dialect: Dialect) -> None:
    """A URL or a backend name; a mysql URL that leads to MariaDB is known by the version."""
    assert dialect_for(name, version) is dialect


@pytest.mark.parametrize(("name", "backend"), [("mssql+pyodbc://dsn", "mssql"), ("oracle", "oracle")])
def test_another_engine_is_generic_under_its_own_name(name: str, backend: str) -> None:
    """What SQLAlchemy renders for one engine alone is judged by that name."""
    assert dialect_for(name, "23.4") == replace(GENERIC, name=backend)


class Refused(Exception):
    """A driver's error that says what it means."""

    def __init__(self, verdict: Verdict, text: str = "") -> None:
        super().__init__(text)
        self.verdict = verdict


def spoken_to(*queries: Query) -> Dialect:
    """A dialect that reports the number of rows it got for each question."""

    def read(answers: Answers) -> Report:
        return Report(
            role=Role.UNKNOWN, identity=" ".join(f"{name}:{len(rows_of(answers, name) or ())}" for name in answers)
        )

    return Dialect(
        name="spoken",
        probe=queries,
        read=read,
        position_after_write=None,
        parse_position=WallClock.parse,
        guard=(),
        verdict_of_error=lambda error: error.verdict if isinstance(error, Refused) else Verdict.GONE,
    )


class Server:
    """Gives its answers in turn and remembers what it was asked."""

    def __init__(self, *outcomes: Sequence[Row] | Exception) -> None:
        self.outcomes: Iterator[Sequence[Row] | Exception] = iter(outcomes)
        self.asked: list[str] = []

    def execute(self, sql: str) -> Sequence[Row]:
        self.asked.append(sql)
        outcome = next(self.outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_questions_are_asked_in_order() -> None:
    """Each question once, none after the last."""
    server = Server([{"x": 1}], [])
    report = run_probe(spoken_to(Query("one", "SELECT 1"), Query("two", "SELECT 2")), server.execute)
    assert report.identity == "one:1 two:0"
    assert server.asked == ["SELECT 1", "SELECT 2"]


def test_the_other_spelling_is_asked_only_of_who_does_not_know_the_first() -> None:
    """A statement's own fault leads to the next spelling; an answer, even an empty one, does not."""
    query = Query("status", "NEW", otherwise=("OLD", "OLDEST"))
    server = Server(Refused(Verdict.STATEMENT), [])
    run_probe(spoken_to(query), server.execute)
    assert server.asked == ["NEW", "OLD"]
    server = Server([])
    run_probe(spoken_to(query), server.execute)
    assert server.asked == ["NEW"]


def test_the_last_refusal_is_the_error() -> None:
    """If no spelling is understood, the driver's error for the last one comes through."""
    server = Server(Refused(Verdict.STATEMENT, "first"), Refused(Verdict.STATEMENT, "last"))
    with pytest.raises(Refused, match="last"):
        run_probe(spoken_to(Query("status", "NEW", otherwise=("OLD",))), server.execute)


@pytest.mark.parametrize("verdict", [each for each in Verdict if each not in (Verdict.STATEMENT, Verdict.DENIED)])
def test_any_other_error_ends_the_probe(verdict: Verdict) -> None:
    """A server that is gone is not asked in other words."""
    server = Server(Refused(verdict))
    with pytest.raises(Refused):
        run_probe(spoken_to(Query("status", "NEW", grant="ALL ON *.*", otherwise=("OLD",))), server.execute)
    assert server.asked == ["NEW"]


def test_a_missing_grant_is_named_and_the_rest_is_asked() -> None:
    """Denied becomes a line for people; the older spelling would need the same grant and is not tried."""
    server = Server(Refused(Verdict.DENIED), [{"x": 1}])
    dialect = spoken_to(
        Query("status", "NEW", grant="PEEK ON *.*", without="everything", otherwise=("OLD",)), Query("b", "B")
    )
    report = run_probe(dialect, server.execute)
    assert report.missing == ("GRANT PEEK ON *.* is missing; without it these stay unknown: everything",)
    assert report.identity == "status:0 b:1"
    assert server.asked == ["NEW", "B"]


def test_denied_without_a_grant_to_name_is_an_error() -> None:
    """A question everybody may ask, refused: something else is wrong."""
    with pytest.raises(Refused):
        run_probe(spoken_to(Query("status", "NEW")), Server(Refused(Verdict.DENIED)).execute)


def test_sqlalchemys_wrapping_is_seen_through() -> None:
    """The driver's error stands in .orig; the wrapped one is what comes out."""

    class Wrapped(Exception):
        def __init__(self, orig: Exception) -> None:
            super().__init__(str(orig))
            self.orig = orig

    query = Query("status", "NEW", grant="PEEK", without="all", otherwise=("OLD",))
    assert run_probe(spoken_to(query), Server(Wrapped(Refused(Verdict.DENIED))).execute).missing
    assert run_probe(spoken_to(query), Server(Wrapped(Refused(Verdict.STATEMENT)), []).execute)
    with pytest.raises(Wrapped):
        run_probe(spoken_to(query), Server(Wrapped(Refused(Verdict.GONE))).execute)


def test_reading_values() -> None:
    """What is missing or not understood is not known; NULL never becomes zero."""
    assert text_of(None) is None
    assert text_of(b"ON") == text_of(bytearray(b"ON")) == text_of("ON") == "ON"
    assert [is_on(value) for value in (None, 0, "0", "OFF", b"off", False)] == [None, *[False] * 5]
    assert [is_on(value) for value in (1, "1", "ON", True, "NO_LOCK", "whatever")] == [True] * 6
    assert [seconds_of(value) for value in (None, "", "soon", float("nan"))] == [None] * 4
    assert [seconds_of(value) for value in (0, "3", Decimal("2.5"), b"7", -1)] == [0.0, 3.0, 2.5, 7.0, 0.0]
    assert furthest([]) is None
    assert furthest([1.0, None]) is None
    assert furthest(iter([1.0, 3.0, 2.0])) == 3.0
    assert position_of(Lsn.parse, None) is None
    assert position_of(Lsn.parse, "elsewhere") is None
    assert position_of(MySQLGtidSet.parse, b"") == MySQLGtidSet()
    assert rows_of({"a": Denied("x")}, "a") is None
    assert rows_of({}, "a") is None
    assert rows_of({"a": []}, "a") == []


def test_probe_of_real_sqlite_files(tmp_path: Path) -> None:
    """A file is the primary until it holds the status table; then it is as old as its row."""
    path = tmp_path / "blog.db"
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row

    def execute(sql: str) -> Sequence[Row]:
        return [dict(row) for row in connection.execute(sql)]

    primary = run_probe(SQLITE, execute)
    assert (primary.role, primary.lag, primary.is_writable) == (Role.PRIMARY, None, True)
    assert primary.identity == str(path)
    assert SQLITE.position_after_write is not None
    (token,) = (SQLITE.parse_position(str(*row.values())) for row in execute(SQLITE.position_after_write))
    assert token.covers(primary.position or token)

    connection.execute("CREATE TABLE rds_router_replica_status (caught_up_at REAL)")
    assert run_probe(SQLITE, execute).lag is None
    connection.execute("INSERT INTO rds_router_replica_status VALUES (?)", (float(str(token)) - 60,))
    replica = run_probe(SQLITE, execute)
    assert replica.role is Role.REPLICA
    assert replica.lag is not None
    assert replica.lag >= 59.9
    assert replica.position == WallClock(float(str(token)) - 60)
    assert not replica.position.covers(token)
    connection.execute("UPDATE rds_router_replica_status SET caught_up_at = ?", (float(str(token)),))
    caught_up = run_probe(SQLITE, execute)
    assert caught_up.position is not None
    assert caught_up.position.covers(token)
    connection.close()
