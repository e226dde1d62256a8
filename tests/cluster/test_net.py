"""R9, the net under the classifier: told to take everything for a read, the router changes nothing on a replica."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, exc, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import Kind, Router, RoutingPolicy, RoutingSession, Statement
from rds_router.classify.cache import Classifier
from rds_router.core.position import MariaDBGtidList, MySQLGtidSet
from rds_router.dialects import Verdict
from rds_router.events import Healed
from rds_router.lab import Cluster
from tests.conftest import ClusterFactory

SAMPLE = Path(__file__).parent.parent / "spec" / "classify" / "sample.tsv"
ENGINES = ("mariadb", "mysql", "postgresql")
TABLES = (
    "CREATE TABLE t (id INT PRIMARY KEY, c INT, name VARCHAR(20), data {json})",
    "CREATE TABLE t2 (id INT PRIMARY KEY, t_id INT, v VARCHAR(20))",
    "INSERT INTO t VALUES (1, 1, 'one', '{{}}'), (2, 2, 'two', '{{}}')",
    "INSERT INTO t2 VALUES (1, 1, 'a'), (2, 1, 'b')",
)
ALSO = {
    "mariadb": ("CREATE SEQUENCE s",),
    "mysql": (),
    "postgresql": ("CREATE SEQUENCE s", "CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x"),
}


class CredulousClassifier(Classifier):
    """Takes everything for a read, but for what it was taught."""

    def judge(self, clause: Any) -> Statement:
        return self.learned.get(self.shape_of(clause), Statement(Kind.READ, "forced by the test"))  # type: ignore[arg-type]


@pytest.fixture(params=ENGINES)
def net(request: pytest.FixtureRequest, lab_cluster: ClusterFactory) -> Iterator[tuple[Cluster, Router]]:
    """A cluster with a few tables and a router that believes everything is a read."""
    cluster = lab_cluster(request.param, replicas=1)
    engine = create_engine(cluster.primary.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (*TABLES, *ALSO[request.param]):
            json = "JSONB" if request.param == "postgresql" else "JSON"
            connection.exec_driver_sql(statement.format(json=json))
    engine.dispose()
    cluster.wait_caught_up()
    with Router(
        cluster.primary.url,
        [cluster.replicas[0].url],
        policy=RoutingPolicy(probe_interval=3600, after_write="any"),
        engine_options={"connect_args": {"connect_timeout": 5}},
    ) as router:
        assert router.refresh()
        router._classifier = CredulousClassifier(router.dialect.name)
        yield cluster, router


def test_the_whole_sample_taken_for_reads_changes_nothing_on_a_replica(net: tuple[Cluster, Router]) -> None:
    cluster, router = net
    healed: list[Healed] = []
    router.events.listen(lambda event: healed.append(event) if isinstance(event, Healed) else None)
    statements = _sample(router.dialect.name)
    assert len(statements) > 25

    before = _content(cluster.replicas[0].admin_url)
    refusals: list[tuple[str, Any]] = []
    for statement in statements:
        with RoutingSession(router=router) as session, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                session.execute(_literal(statement))
                session.rollback()
            except exc.DBAPIError as error:
                refusals.append((statement, error.orig))
    cluster.wait_caught_up()
    assert _foreign_writes(cluster) == ""
    assert _content(cluster.replicas[0].admin_url) == _content(cluster.primary.admin_url)
    assert before  # the replica had something that could have changed
    assert healed, "the guard refused nothing: is it on?"
    assert len(healed) == router.events.counts["Healed"]
    # What failed did so by its own fault, on the primary too: never because a replica refused it.
    assert [each for each, error in refusals if router.verdict_of(error) is Verdict.READ_ONLY] == []
    assert len(refusals) < len(statements) / 2


def test_a_refused_statement_runs_once_on_the_primary_and_the_caller_notices_nothing(
    net: tuple[Cluster, Router],
) -> None:
    _, router = net
    with RoutingSession(router=router) as session:
        result = session.execute(text("UPDATE t SET c = c + 1 WHERE id = :id"), {"id": 1})
        assert result.rowcount == 1  # type: ignore[attr-defined]
        session.commit()
    with router.primary.connect() as connection:
        assert connection.scalar(text("SELECT c FROM t WHERE id = 1")) == 2
    assert router.events.counts["Healed"] == 1


def test_the_shape_of_a_refused_statement_goes_to_the_primary_from_then_on(net: tuple[Cluster, Router]) -> None:
    _, router = net
    statement = "DELETE FROM t2 WHERE id = :id"
    for number in (101, 102, 103):
        with RoutingSession(router=router) as session:
            session.execute(text(statement), {"id": number})
            session.commit()
    assert router.events.counts["Healed"] == 1
    assert "refused by the read-only replica" in str(router.explain(text(statement)))


def test_a_locking_read_of_the_orm_is_healed_too(net: tuple[Cluster, Router]) -> None:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "t"
        id: Mapped[int] = mapped_column(primary_key=True)
        c: Mapped[int]

    _, router = net
    with RoutingSession(router=router) as session:
        assert session.get(Thing, 1) is not None  # pins the replica
        found = session.scalars(select(Thing).where(Thing.id == 2).with_for_update()).one()
        assert found.c == 2
        found.c = 20
        session.commit()
    assert router.events.counts["Healed"] == 1


def test_a_refusal_is_not_healed_once_the_transaction_has_written(net: tuple[Cluster, Router]) -> None:
    cluster, router = net
    with RoutingSession(router=router) as session:
        session.connection()  # on the primary from here on
        cluster.demote(cluster.primary)
        with pytest.raises(exc.DBAPIError) as caught:
            session.execute(text("UPDATE t SET c = 9 WHERE id = 2"))
        assert caught.value.orig is not None
        assert router.verdict_of(caught.value.orig) is Verdict.READ_ONLY
    assert router.events.counts["Healed"] == 0


def _sample(dialect: str) -> list[str]:
    with SAMPLE.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["statement"].encode().decode("unicode_escape") for row in rows if row["dialect"] == dialect]


def _literal(statement: str) -> Any:
    """A text() whose colons are no parameters."""
    return text(statement.replace(":", r"\:"))


def _content(url: str) -> dict[str, Any]:
    engine = create_engine(url)
    try:
        return {name: _rows(engine, name) for name in _names(engine)}
    finally:
        engine.dispose()


def _names(engine: Engine) -> list[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('app', 'public') ORDER BY 1"
    with engine.connect() as connection:
        return [str(name) for name in connection.scalars(text(query))]


def _rows(engine: Engine, name: str) -> list[str]:
    with engine.connect() as connection:
        return sorted(str(row) for row in connection.execute(text(f"SELECT * FROM {name}")))


def _foreign_writes(cluster: Cluster) -> str:
    """GTIDs that the replica made itself; PostgreSQL's standbys cannot make any."""
    if cluster.engine == "postgresql":
        return ""
    ask = {"mysql": "SELECT @@global.gtid_executed", "mariadb": "SELECT @@global.gtid_binlog_pos"}[cluster.engine]
    parse = {"mysql": MySQLGtidSet.parse, "mariadb": MariaDBGtidList.parse}[cluster.engine]
    found = []
    for server in (cluster.primary, cluster.replicas[0]):
        engine = create_engine(server.admin_url)
        with engine.connect() as connection:
            found.append(parse(str(connection.scalar(text(ask)))))
        engine.dispose()
    return "" if found[0].covers(found[1]) else f"replica {found[1]}, primary {found[0]}"
