"""What real servers say when they refuse, in each driver that is installed: numbers of a table, met in life."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from rds_router.dialects import dialect_for
from rds_router.dialects.base import Verdict
from rds_router.dialects.mysql import code_of
from rds_router.lab import Cluster
from tests.cluster.watching import ENGINES, run
from tests.conftest import ClusterFactory

MODULES = {
    "pymysql": "pymysql",
    "mysqldb": "MySQLdb",
    "mysqlconnector": "mysql",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
}
DRIVERS = {
    "mysql": ("pymysql", "mysqldb", "mysqlconnector"),
    "postgresql": ("psycopg", "psycopg2"),
}


def urls(url: str) -> Iterator[tuple[str, Any]]:
    """The URL by each driver that is here."""
    family = make_url(url).get_backend_name()
    for driver in DRIVERS[family]:
        if importlib.util.find_spec(MODULES[driver]):
            yield driver, make_url(url).set(drivername=f"{family}+{driver}")


@contextmanager
def connected(url: Any) -> Iterator[Any]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def told(engine: str, url: str, *statements: str) -> dict[str, tuple[int | str, Verdict]]:
    """What each driver raises at the last of these statements: the server's number, and what we take it for."""
    found: dict[str, tuple[int | str, Verdict]] = {}
    for driver, each in urls(url):
        with pytest.raises(DBAPIError) as raised:
            done(each, *statements)
        found[driver] = _read(engine, raised.value.orig)
    assert found
    return found


def done(url: Any, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.execute(text(statement))


def _read(engine: str, error: Any) -> tuple[int | str, Verdict]:
    states = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
    number = states if engine == "postgresql" else code_of(error)
    return number if number is not None else "", dialect_for(engine).verdict_of_error(error)


def crowd(held: ExitStack, url: str) -> None:
    for _ in range(20):
        held.enter_context(connected(url))


def only(number: int | str, verdict: Verdict, found: dict[str, tuple[int | str, Verdict]]) -> None:
    """Every driver says the same."""
    assert set(found.values()) == {(number, verdict)}, found


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_what_a_server_says_that_is_read_only_or_full(engine: str, lab_cluster: ClusterFactory) -> None:
    """read_only, super_read_only and innodb_read_only (an Aurora reader, a disk that is full), a read-only transaction,
    offline_mode, max_connections: 1290, 1792, 1015, 1036, 1836, 3032, 1040."""
    c = lab_cluster(engine, replicas=0)
    server, refused = c.primary, Verdict.READ_ONLY
    insert = "INSERT INTO t VALUES (1)"
    run(server.url, "CREATE TABLE t (id INT PRIMARY KEY)")
    only(1792, refused, told(engine, server.url, "SET SESSION TRANSACTION READ ONLY", insert))
    run(server.admin_url, "SET GLOBAL read_only = ON")
    only(1290, refused, told(engine, server.url, insert))
    if engine == "mysql":
        run(server.admin_url, "SET GLOBAL super_read_only = ON")
        only(1290, refused, told(engine, server.admin_url, "CREATE USER somebody"))
        run(server.admin_url, "SET GLOBAL super_read_only = OFF", "SET GLOBAL offline_mode = ON")
        only(3032, Verdict.GONE, told(engine, server.bare_url, "SELECT 1"))
        run(server.admin_url, "SET GLOBAL offline_mode = OFF")
    run(server.admin_url, "SET GLOBAL read_only = OFF", "SET GLOBAL max_connections = 10")
    with ExitStack() as held:
        with pytest.raises(DBAPIError):
            crowd(held, server.bare_url)
        only(1040, Verdict.TOO_MANY, told(engine, server.bare_url, "SELECT 1"))

    options: dict[str, Any] = c._runtime._options  # type: ignore[attr-defined, assignment]
    options["innodb_read_only"] = "ON"
    c.restart(server)
    only(1036, refused, told(engine, server.url, "TRUNCATE TABLE t"))
    only(1015 if engine == "mysql" else 1036, refused, told(engine, server.url, insert))
    only(1836 if engine == "mysql" else 1005, refused, told(engine, server.url, "CREATE TABLE t2 (id INT)"))


def test_what_postgresql_says_that_is_read_only_or_full(postgresql_cluster: Cluster) -> None:
    """25006 of a standby and of a server that is told to refuse, 53300 of one that is full."""
    primary, standby = postgresql_cluster.primary, postgresql_cluster.replicas[0]
    write = "CREATE TABLE nowhere (id INT)"
    only("25006", Verdict.READ_ONLY, told("postgresql", standby.url, write))
    only(
        "25006",
        Verdict.READ_ONLY,
        told("postgresql", primary.url, "SET default_transaction_read_only = on", "COMMIT", write),
    )
    user = make_url(primary.bare_url).username
    run(primary.admin_url, f"ALTER ROLE {user} CONNECTION LIMIT 1")
    try:
        with connected(primary.bare_url):
            found = told("postgresql", primary.bare_url, "SELECT 1")
    finally:
        run(primary.admin_url, f"ALTER ROLE {user} CONNECTION LIMIT -1")
    assert {verdict for _, verdict in found.values()} == {Verdict.TOO_MANY}, found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ended", ["before a statement", "before COMMIT"])
def test_a_connection_that_is_ended_is_gone_and_nothing_of_it_done(
    request: pytest.FixtureRequest, engine: str, ended: str
) -> None:
    """By each driver: killed by the server under an open write transaction."""
    server = request.getfixturevalue(f"{engine}_cluster").primary
    run(server.url, "DROP TABLE IF EXISTS ended", "CREATE TABLE ended (id INT PRIMARY KEY)")
    own = "SELECT pg_backend_pid()" if engine == "postgresql" else "SELECT CONNECTION_ID()"
    end = "SELECT pg_terminate_backend({})" if engine == "postgresql" else "KILL {}"
    for driver, url in urls(server.url):
        with connected(url) as connection:
            number = connection.scalar(text(own))
            connection.execute(text("INSERT INTO ended VALUES (1)"))
            run(server.admin_url, end.format(number))
            go_on = connection.commit if ended == "before COMMIT" else partial(connection.execute, text("SELECT 1"))
            with pytest.raises(DBAPIError) as raised:
                go_on()
            connection.invalidate()
        assert _read(engine, raised.value.orig)[1] is Verdict.GONE, (driver, raised.value)
        assert run(server.url, "SELECT count(*) FROM ended") == 0
    run(server.url, "DROP TABLE ended")
