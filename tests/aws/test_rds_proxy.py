"""The policy for RDS Proxy: nothing is sent that pins, by the statements that real servers have logged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, create_engine, delete, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import QueuePool

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster, Server
from rds_router.servers import policy_for
from tests.aws.conftest import ENGINES
from tests.aws.pinning import why_pinned
from tests.cluster.watching import run

PROXY = "mysql+pymysql://app@pool.proxy-abc123.eu-west-1.rds.amazonaws.com/blog"


@pytest.mark.parametrize(
    ("engine", "statement", "why"),
    [
        ("mysql", "SET AUTOCOMMIT = 1", ""),
        ("mysql", "SET NAMES utf8mb4", ""),
        ("mysql", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ""),
        ("mysql", "SET SESSION TRANSACTION READ ONLY", "a variable that is not tracked"),
        ("mysql", "SET SESSION session_track_gtids = OWN_GTID", "a variable that is not tracked"),
        ("mysql", "SET @a = 1", "a variable that is not tracked"),
        ("mysql", "SELECT @a := 1", "a user variable"),
        ("mysql", "SELECT @@version", ""),
        ("mysql", "SELECT GET_LOCK('a', 1)", "a named lock"),
        ("mysql", f"SELECT '{'x' * 17000}'", "a long statement"),
        ("postgresql", "SET default_transaction_read_only = on", "a setting"),
        ("postgresql", "BEGIN ISOLATION LEVEL REPEATABLE READ", ""),
        ("postgresql", "DEALLOCATE ALL", "a prepared statement"),
        ("postgresql", "show standard_conforming_strings", ""),
    ],
)
def test_the_tables_know_what_pins(engine: str, statement: str, why: str) -> None:
    assert why_pinned(statement, engine) == why


def test_the_endpoints_name_chooses_the_policy() -> None:
    assert policy_for(make_url(PROXY)) == RoutingPolicy.rds_proxy()
    assert policy_for(make_url(PROXY.replace("proxy-", "cluster-"))) == RoutingPolicy()
    with Router(PROXY, [PROXY.replace("pool.proxy", "read.endpoint.proxy")]) as router:
        assert router.policy.behind_proxy
        assert not router.policy.guard
        for engine in (
            router.primary_engine(start=False),
            router.replica_engine(router.topology.replicas[0].server.name),
        ):
            pool = engine.pool
            assert isinstance(pool, QueuePool)
            assert (pool.size(), pool._max_overflow) == (2, 8)
            assert 0 < pool._recycle < 1800
    with Router(PROXY, policy=RoutingPolicy(guard=False)) as router:
        assert not router.policy.behind_proxy


def test_fields_of_ones_own_win() -> None:
    policy = RoutingPolicy.rds_proxy(after_write_window=9.0, guard=True)
    assert (policy.behind_proxy, policy.after_write_window, policy.guard) == (True, 9.0, True)


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "pinned_things"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


def use(router: Router) -> None:
    """What applications do."""
    assert router.refresh(30)
    with RoutingSession(router=router) as session:
        for _ in range(7):  # psycopg would prepare a statement at its sixth execution
            session.scalars(select(Thing).order_by(Thing.id)).all()
            session.rollback()
        thing = Thing(name="pinned?")
        session.add(thing)
        session.flush()
        with session.begin_nested():
            session.execute(insert(Thing), [{"name": "one"}, {"name": "two"}])
        session.commit()
        session.refresh(thing)
        session.execute(update(Thing).where(Thing.name == "one").values(name="three"))
        session.execute(select(Thing).with_for_update().limit(1)).all()
        session.execute(text("UPDATE pinned_things SET name = name WHERE id = -1"))
        session.rollback()
        session.execute(delete(Thing).where(Thing.name == "two"))
        session.commit()
        str(session.token)
        with session.using_replica():
            session.scalars(select(Thing.id)).all()
    with router.reader.connect() as connection:
        connection.execute(text("SELECT 1"))


@pytest.fixture
def things(request: pytest.FixtureRequest, engine: str) -> Iterator[Cluster]:
    """The engine's shared cluster, with the table on all servers."""
    cluster: Cluster = request.getfixturevalue(f"{engine}_cluster")
    tables = create_engine(cluster.primary.url)
    Base.metadata.create_all(tables)
    cluster.wait_caught_up()
    yield cluster
    Base.metadata.drop_all(tables)
    tables.dispose()
    cluster.wait_caught_up()


def sent(cluster: Cluster, policy: RoutingPolicy) -> list[str]:
    """What the servers were sent by a router under this policy."""
    urls = [each.url for each in cluster.replicas]
    with Logged(cluster) as logged, Router(cluster.primary.url, urls, policy=policy) as router:
        use(router)
        assert len(router.topology.eligible) == 2, router
    assert any("INSERT INTO pinned_things" in each for each in logged.statements), logged.statements
    return logged.statements


@pytest.mark.parametrize("transactions", ["autocommit", "snapshot"])
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_that_is_sent_pins_and_no_topology_is_asked_for(things: Cluster, transactions: Any) -> None:
    statements = sent(things, RoutingPolicy.rds_proxy(replica_transactions=transactions))
    assert [(each, why) for each in statements if (why := why_pinned(each, things.engine))] == []
    asks = re.compile(r"gtid|replica|slave|wal_|recovery|read_only|pg_control|LSN", re.I)
    assert [each for each in statements if asks.search(each)] == []


@pytest.mark.parametrize("engine", ["mysql", "postgresql"])
def test_without_the_policy_it_would(things: Cluster) -> None:
    """So the test above can fail."""
    found = {why_pinned(each, things.engine) for each in sent(things, RoutingPolicy())} - {""}
    assert found == (
        {"a setting", "a prepared statement"} if things.engine == "postgresql" else {"a variable that is not tracked"}
    )


class Logged:
    """The statements that the application's account sent to all servers while the block ran."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._is_pg = cluster.engine == "postgresql"
        self._begun: dict[str, int] = {}
        self.statements: list[str] = []

    def __enter__(self) -> Logged:
        for each in self._cluster.servers:
            if self._is_pg:
                run(each.admin_url, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
                run(each.admin_url, "SELECT pg_sleep(0.2)")
                self._begun[each.name] = len(self._log(each).read_text())
            else:
                run(each.admin_url, "SET GLOBAL log_output = 'FILE'", f"SET GLOBAL general_log_file = '{_NAME}'")
                self._log(each).unlink(missing_ok=True)
                run(each.admin_url, "SET GLOBAL general_log = ON")
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._cluster.servers:
            if self._is_pg:
                run(each.admin_url, "ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
                written = self._log(each).read_text()[self._begun[each.name] :]
                for how, statement in re.findall(r"LOG:  (statement|execute [^:]*): (.*)", written):
                    is_plain = how in ("statement", "execute <unnamed>")
                    self.statements.append(statement if is_plain else f"EXECUTE {how}: {statement}")
            else:
                run(each.admin_url, "SET GLOBAL general_log = OFF")
                self.statements += _of_app(self._log(each).read_text())

    def _log(self, server: Server) -> Path:
        return server.path.with_name(f"{server.name}.log") if self._is_pg else server.path / _NAME


def _of_app(log: str) -> list[str]:
    """A general log's statements, of the connections of the account ``app``."""
    ours: set[str] = set()
    found = []
    for number, command, argument in re.findall(r"^[^\t]*\t\s*(\d+) (\w+(?: DB)?)\s*\t(.*)$", log, re.M):
        if command == "Connect":
            (ours.add if argument.startswith("app@") else ours.discard)(number)
        elif number in ours and command not in ("Quit", "Ping"):
            found.append(argument)
    return found


_NAME = "statements.log"
