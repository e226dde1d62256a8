"""What the errors of drivers mean, by number and by SQLSTATE, without a server."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pymysql  # type: ignore[import-untyped,unused-ignore]
import pytest

from rds_router.dialects import GENERIC, MARIADB, MYSQL, POSTGRESQL, SQLITE, Verdict
from rds_router.dialects import mysql as mysql_module
from rds_router.dialects import postgresql as postgresql_module

READ_ONLY_1290 = "The MySQL server is running with the --read-only option so it cannot execute this statement"


class ConnectorError(Exception):
    """As MySQL Connector and MariaDB Connector raise it: the number in errno, the text first in args."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno


class InterfaceError(Exception):
    """As several drivers name their own fault, for example a connection they have closed."""


class StateError(Exception):
    """As psycopg, asyncpg (sqlstate) and psycopg2 (pgcode) raise it."""

    def __init__(self, text: str, *, sqlstate: str | None = None, pgcode: str | None = None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.pgcode = pgcode


@pytest.mark.parametrize(
    ("number", "text", "verdict"),
    [
        (1290, READ_ONLY_1290, Verdict.READ_ONLY),
        (1290, READ_ONLY_1290.replace("read-only", "super-read-only"), Verdict.READ_ONLY),
        (1290, "Le serveur MySQL a demarre avec --read-only, impossible d'executer", Verdict.READ_ONLY),
        (
            1290,
            "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement",
            Verdict.STATEMENT,
        ),
        (
            1290,
            "The MySQL server is running with the --skip-grant-tables option so it cannot execute this",
            Verdict.STATEMENT,
        ),
        (1792, "Cannot execute statement in a READ ONLY transaction.", Verdict.READ_ONLY),
        (1836, "Running in read-only mode", Verdict.READ_ONLY),
        (1005, 'Can\'t create table `app`.`t2` (errno: 165 "Table is read only")', Verdict.READ_ONLY),
        (1005, 'Can\'t create table `app`.`t2` (errno: 150 "Foreign key constraint")', Verdict.STATEMENT),
        (1015, "Can't lock file (errno: 165 - Table is read only)", Verdict.READ_ONLY),
        (1015, "Can't lock file (errno: 37 - No locks available)", Verdict.STATEMENT),
        (1036, "Table 't' is read only", Verdict.READ_ONLY),
        (1874, "InnoDB is in read only mode.", Verdict.READ_ONLY),
        (1053, "Server shutdown in progress", Verdict.GONE),
        (1927, "Connection was killed", Verdict.GONE),
        (2002, "Can't connect to local server through socket", Verdict.GONE),
        (2003, "Can't connect to MySQL server on '127.0.0.1' (timed out)", Verdict.GONE),
        (2006, "Server has gone away", Verdict.GONE),
        (2013, "Lost connection to MySQL server during query", Verdict.GONE),
        (2014, "Command Out of Sync", Verdict.GONE),
        (2055, "Lost connection to server at '%s', system error: %d", Verdict.GONE),
        (4031, "The client was disconnected by the server because of inactivity.", Verdict.GONE),
        (3032, "The server is currently in offline mode", Verdict.GONE),
        (1047, "WSREP has not yet prepared node for application use", Verdict.GONE),
        (1047, "Unknown command", Verdict.STATEMENT),
        (1040, "Too many connections", Verdict.TOO_MANY),
        (1203, "User app already has more than 'max_user_connections' active connections", Verdict.TOO_MANY),
        (1226, "User 'app' has exceeded the 'max_user_connections' resource", Verdict.TOO_MANY),
        (1044, "Access denied for user 'app'@'%' to database 'x'", Verdict.LOGIN),
        (1045, "Access denied for user 'app'@'localhost' (using password: YES)", Verdict.LOGIN),
        (1698, "Access denied for user 'root'@'localhost'", Verdict.LOGIN),
        (1142, "SELECT command denied to user", Verdict.DENIED),
        (1227, "Access denied; you need (at least one of) the SUPER privilege(s)", Verdict.DENIED),
        (1205, "Lock wait timeout exceeded; try restarting transaction", Verdict.RETRY),
        (1213, "Deadlock found when trying to get lock; try restarting transaction", Verdict.RETRY),
        (1020, "Record has changed since last read in table 't'", Verdict.RETRY),
        (1064, "You have an error in your SQL syntax", Verdict.STATEMENT),
        (1062, "Duplicate entry '1' for key 'PRIMARY'", Verdict.STATEMENT),
        (1317, "Query execution was interrupted", Verdict.STATEMENT),
        (3572, "Statement aborted because lock(s) could not be acquired immediately", Verdict.STATEMENT),
    ],
)
def test_mysql_by_number(number: int, text: str, verdict: Verdict) -> None:
    """A number means the same from every driver and for both engines; 1290 and its like need the text too."""
    errors = [
        pymysql.err.OperationalError(number, text),  # PyMySQL, mysqlclient, aiomysql, asyncmy: args
        pymysql.err.InternalError(number, text),
        ConnectorError(number, f"{number} (HY000): {text}"),
    ]
    for dialect in (MYSQL, MARIADB):
        assert [dialect.verdict_of_error(error) for error in errors] == [verdict] * 3


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (pymysql.err.InterfaceError(0, ""), Verdict.GONE),
        (pymysql.err.InternalError("Packet sequence number wrong - got 1 expected 2"), Verdict.GONE),
        (ConnectorError(-1, "MySQL Connection not available."), Verdict.GONE),
        (InterfaceError("Not connected"), Verdict.GONE),
        (ConnectionResetError(104, "Connection reset by peer"), Verdict.GONE),
        (TimeoutError("timed out"), Verdict.GONE),
        (EOFError(), Verdict.GONE),
        (pymysql.err.ProgrammingError("Cursor closed"), Verdict.GONE),
        (TypeError("not all arguments converted"), Verdict.STATEMENT),
        (RuntimeError(), Verdict.STATEMENT),
    ],
)
def test_mysql_without_a_number(error: BaseException, verdict: Verdict) -> None:
    """What drivers and the operating system say themselves, without a number of the server."""
    assert MYSQL.verdict_of_error(error) is verdict


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("25006", Verdict.READ_ONLY),
        ("57P01", Verdict.GONE),
        ("57P02", Verdict.GONE),
        ("57P03", Verdict.GONE),
        ("57P05", Verdict.GONE),
        ("25P03", Verdict.GONE),
        ("08000", Verdict.GONE),
        ("08006", Verdict.GONE),
        ("08P01", Verdict.GONE),
        ("53300", Verdict.TOO_MANY),
        ("28000", Verdict.LOGIN),
        ("28P01", Verdict.LOGIN),
        ("3D000", Verdict.LOGIN),
        ("42501", Verdict.DENIED),
        ("40001", Verdict.RETRY),
        ("40P01", Verdict.RETRY),
        ("55P03", Verdict.RETRY),
        ("57014", Verdict.STATEMENT),  # query_canceled: statement_timeout
        ("25P02", Verdict.STATEMENT),  # in_failed_sql_transaction
        ("42601", Verdict.STATEMENT),
        ("23505", Verdict.STATEMENT),
        ("55000", Verdict.STATEMENT),
    ],
)
def test_postgresql_by_sqlstate(state: str, verdict: Verdict) -> None:
    """A SQLSTATE means the same from psycopg and asyncpg, psycopg2, and pg8000."""
    errors = [
        StateError("no words needed", sqlstate=state),
        StateError("no words needed", pgcode=state),
        Exception({"S": "ERROR", "C": state, "M": "no words needed"}),
    ]
    assert [POSTGRESQL.verdict_of_error(error) for error in errors] == [verdict] * 3


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT"), Verdict.READ_ONLY),
        (psycopg.errors.AdminShutdown("terminating connection"), Verdict.GONE),
        (psycopg.errors.ObjectNotInPrerequisiteState("recovery is in progress"), Verdict.READ_ONLY),
        (psycopg.OperationalError("the connection is closed"), Verdict.GONE),
        (psycopg.InterfaceError("connection already closed"), Verdict.GONE),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), Verdict.GONE),
        (psycopg.OperationalError('FATAL:  password authentication failed for user "app"'), Verdict.LOGIN),
        (psycopg.OperationalError('FATAL:  no pg_hba.conf entry for host "::1"'), Verdict.LOGIN),
        (psycopg.OperationalError('FATAL:  role "nobody" does not exist'), Verdict.LOGIN),
        (psycopg.OperationalError('FATAL:  database "blgo" does not exist'), Verdict.LOGIN),
        (psycopg.OperationalError('FATAL:  permission denied for database "blog"'), Verdict.LOGIN),
        (psycopg.OperationalError('FATAL:  role "nobody" is not permitted to log in'), Verdict.LOGIN),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), Verdict.TOO_MANY),
        (
            psycopg.OperationalError("FATAL:  remaining connection slots are reserved for superuser"),
            Verdict.TOO_MANY,
        ),
        (psycopg.OperationalError('FATAL:  too many connections for role "app"'), Verdict.TOO_MANY),
        (psycopg.OperationalError("FATAL:  the database system is shutting down"), Verdict.GONE),
        (psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters were passed"), Verdict.STATEMENT),
        (ConnectionRefusedError(111, "Connection refused"), Verdict.GONE),
        (InterfaceError("cannot perform operation: connection is closed"), Verdict.GONE),
        (ValueError("42501"), Verdict.STATEMENT),
    ],
)
def test_postgresql_in_words(error: BaseException, verdict: Verdict) -> None:
    """A refused connection comes without SQLSTATE; whatever is not a refusal then means there is none."""
    assert POSTGRESQL.verdict_of_error(error) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("attempt to write a readonly database", Verdict.READ_ONLY),
        ("database is locked", Verdict.RETRY),
        ("database table is locked: posts", Verdict.RETRY),
        ("unable to open database file", Verdict.GONE),
        ("disk I/O error", Verdict.GONE),
        ("database disk image is malformed", Verdict.GONE),
        ("Cannot operate on a closed database.", Verdict.GONE),
        ("not authorized", Verdict.DENIED),
        ("no such table: posts", Verdict.STATEMENT),
        ("UNIQUE constraint failed: posts.id", Verdict.STATEMENT),
    ],
)
def test_sqlite_in_words(text: str, verdict: Verdict) -> None:
    """SQLite's messages are English in every version; numbers came with Python 3.11."""
    assert SQLITE.verdict_of_error(sqlite3.OperationalError(text)) is verdict


def test_sqlite_for_real(tmp_path: Any) -> None:
    """The guard of a replica connection makes SQLite refuse a write, and that is recognised."""
    path = tmp_path / "replica.db"
    with sqlite3.connect(path) as writer:
        writer.execute("CREATE TABLE posts (id INTEGER)")
    writer.close()
    reader = sqlite3.connect(path)
    for statement in SQLITE.guard:
        reader.execute(statement)
    with pytest.raises(sqlite3.OperationalError) as refusal:
        reader.execute("INSERT INTO posts VALUES (1)")
    reader.close()
    assert SQLITE.verdict_of_error(refusal.value) is Verdict.READ_ONLY
    with pytest.raises(sqlite3.ProgrammingError) as closed:
        reader.execute("SELECT 1")
    assert SQLITE.verdict_of_error(closed.value) is Verdict.GONE


def test_generic() -> None:
    """Of an unknown driver only the operating system's errors are understood."""
    assert GENERIC.verdict_of_error(ConnectionResetError()) is Verdict.GONE
    assert GENERIC.verdict_of_error(pymysql.err.OperationalError(2013, "gone")) is Verdict.STATEMENT


def test_no_number_has_two_meanings() -> None:
    """The tables are built from lists; a number in two of them would silently take the later meaning."""
    numbers = [
        *mysql_module._READ_ONLY,
        *mysql_module._GONE,
        *mysql_module._TOO_MANY,
        *mysql_module._LOGIN,
        *mysql_module._DENIED,
        *mysql_module._RETRY,
        *mysql_module._VERDICT_BY_TEXT,
    ]
    assert len(numbers) == len(set(numbers))
    assert all(len(state) == 5 for state in postgresql_module._VERDICT)


@pytest.mark.parametrize(
    ("dialect", "error", "may_be"),
    [
        (MYSQL, pymysql.err.OperationalError(1792, "Cannot execute statement in a READ ONLY transaction."), True),
        (MARIADB, ConnectorError(1792, "Cannot execute statement in a READ ONLY transaction."), True),
        (MYSQL, pymysql.err.OperationalError(1290, READ_ONLY_1290), False),
        (MARIADB, pymysql.err.OperationalError(1836, "Running in read-only mode"), False),
        (POSTGRESQL, psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), True),
        (POSTGRESQL, StateError("recovery is in progress", pgcode="55000"), False),
        (SQLITE, sqlite3.OperationalError("attempt to write a readonly database"), False),
        (GENERIC, ValueError("25006"), False),
    ],
)
def test_which_refusals_may_be_the_transactions_own(dialect: Any, error: Exception, may_be: bool) -> None:
    assert dialect.may_be_own_wish(error) is may_be
