"""An engine that SQLAlchemy knows and we do not: roles as configured, no lag, own writes by time.

A dialect of the tests' own stands for Oracle and SQL Server: SQLite files under a name that nobody knows. With the
real drivers engines are made, which takes no server.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import sessionmaker

from rds_router import ConfigurationError, Router, RoutingPolicy, RoutingSession
from rds_router.core.topology import Objection
from rds_router.testing import Clock

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True))


class StandIn(SQLiteDialect_pysqlite):
    """``standin://host/file``: the host is a name only."""

    name = "standin"
    supports_statement_cache = True

    def create_connect_args(self, url: URL) -> Any:
        return super().create_connect_args(URL.create("sqlite", database=url.database, query=url.query))


registry.register("standin", __name__, "StandIn")


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    """A primary, and a replica that has nothing of what is written."""
    found = []
    for name in ("primary", "replica"):
        with sqlite3.connect(tmp_path / name) as file:
            file.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
        file.close()
        found.append(f"standin://{name}/{tmp_path / name}")
    return found


def routed(router: Router, session: RoutingSession) -> str:
    """Who answers a read now."""
    with router.capture() as seen:
        session.execute(select(notes)).all()
    session.rollback()
    (only,) = seen
    return only.decision.target


def test_without_a_lag_replicas_get_no_reads_unless_that_is_allowed(urls: list[str]) -> None:
    with Router(urls[0], urls[1:]) as router, sessionmaker(class_=RoutingSession, router=router)() as session:
        assert router.refresh()
        assert routed(router, session) == "primary"
        assert router.topology["replica"].objection is Objection.UNKNOWN_LAG
        assert repr(router).startswith("<Router standin, ")


@pytest.mark.parametrize("after_write", ["token", "primary"])
def test_roles_are_the_configurations_and_an_author_reads_on_the_primary_for_a_while(
    urls: list[str], after_write: Any
) -> None:
    clock = Clock()
    policy = RoutingPolicy(unknown_lag="allow", after_write=after_write, after_write_window=10.0)
    with Router(urls[0], urls[1:], policy=policy, clock=clock) as router:
        Session = sessionmaker(class_=RoutingSession, router=router)
        assert router.refresh()
        with Session() as author, Session() as reader:
            assert routed(router, author) == "replica"
            with router.capture() as seen:
                author.execute(insert(notes).values(id=1))
                author.commit()
            assert {each.decision.target for each in seen} == {"primary"}
            for seconds in (0.0, 9.0):
                clock.advance(seconds)
                assert router.refresh()
                assert routed(router, author) == "primary"
                assert routed(router, reader) == "replica"
            # What he has seen on the primary since then must not vanish either, and time is all there is to go by.
            clock.advance(10.0)
            assert router.refresh()
            assert routed(router, author) == "replica"


def test_locks_and_text_that_is_not_understood_go_to_the_primary(urls: list[str]) -> None:
    policy = RoutingPolicy(unknown_lag="allow")
    with Router(urls[0], urls[1:], policy=policy) as router:
        assert router.refresh()
        assert router.explain(select(notes)).target == "replica"
        for clause in (select(notes).with_for_update(), text("MERGE INTO notes USING x ON (1=1)"), text("EXEC it")):
            assert router.explain(clause).target == "primary"


ENGINES = {
    "oracle+oracledb": ("oracledb", "oracle+oracledb://app:secret@{}:1521/?service_name=blog"),
    "mssql+pymssql": ("pymssql", "mssql+pymssql://app:secret@{}:1433/blog"),
}


@pytest.mark.parametrize("driver", ENGINES)
def test_engines_for_oracle_and_sql_server_are_made(driver: str) -> None:
    """No server is asked: none is here."""
    module, url = ENGINES[driver]
    pytest.importorskip(module, reason=f"{module} is not installed (extra dev)")
    with Router(url.format("primary"), [url.format("replica")], policy=RoutingPolicy(unknown_lag="allow")) as router:
        primary, replica = router.primary_engine(start=False), router.replica_engine(names(router)[1])
        assert (primary.url.host, replica.url.host) == ("primary", "replica")
        assert f"{primary.dialect.name}+{primary.dialect.driver}" == driver
        assert router.dialect.name == primary.dialect.name
        assert router.explain(text("SELECT id FROM notes")).target == names(router)[0]


def names(router: Router) -> list[str]:
    return [each.server.name for each in router.topology.servers]


@pytest.mark.parametrize("driver", ENGINES)
def test_a_driver_that_is_not_installed_is_named(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, url = ENGINES[driver]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"needs a driver that is not installed") as refused:
        Router(url.format("primary"), [url.format("replica")])
    assert module in str(refused.value)
    assert "secret" not in str(refused.value)
