"""What the text classifier calls a read, no guarded replica refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asking import asked
from sqlalchemy.exc import DBAPIError

from rds_router.classify.text import judge_text
from rds_router.dialects import Verdict
from rds_router.lab import Cluster
from tests.spec.classify_cases import ALL

ENGINES = ["mysql", "mariadb", "postgresql"]
TIME_LIMIT = {
    "mysql": "SET max_execution_time = 2000",
    "mariadb": "SET max_statement_time = 2",
    "postgresql": "SET statement_timeout = 2000",
}
"""Cases are written to be judged, not run: one that never ends would fill the machine's memory."""
COLUMNS = "id INT, a INT, b INT, c INT, x INT, name VARCHAR(20)"


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The run's cluster with three tables that many cases name, which are dropped again."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    with asked(cluster.primary.url) as primary:
        for table in ("t", "u", "v"):
            primary.execute(f"CREATE TABLE {table} ({COLUMNS})")
        cluster.wait_caught_up()
        yield cluster
        for table in ("t", "u", "v"):
            primary.execute(f"DROP TABLE {table}")
    cluster.wait_caught_up()


@pytest.mark.parametrize("shared", ENGINES, indirect=True)
def test_no_read_is_refused_by_a_guarded_replica(shared: Cluster, request: pytest.FixtureRequest) -> None:
    """Each case that is judged a read is run on a replica in a read-only session; errors of grammar are its own."""
    engine = request.node.callspec.params["shared"]
    ran, refused = 0, []
    with asked(shared.replicas[0].url) as replica:
        for statement in (*replica.dialect.guard, TIME_LIMIT[engine]):
            replica.execute(statement)
        for sql in _reads(engine):
            try:
                replica.execute(sql)
                ran += 1
            except DBAPIError as error:
                if replica.dialect.verdict_of_error(error.orig or error) is Verdict.READ_ONLY:
                    refused.append(sql)
    assert refused == []
    assert ran > 40, ran


def _reads(engine: str) -> list[str]:
    """Cases judged to be reads that a driver can run as they stand: no placeholders, one statement, no COPY."""
    return [
        case.sql
        for case in ALL
        if case.dialect == engine
        and judge_text(case.sql, dialect=engine).is_read
        and not any(mark in case.sql for mark in ("%", ";", "COPY"))
    ]
