"""Stages on SQLite files, on MariaDB, and on PostgreSQL behind pgbouncer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from rds_router import token_router
from rds_router.lab import Cluster
from tests.conftest import missing
from tests.session.models import Base, seed
from tests.session.pgbouncer import bouncing, program
from tests.session.stage import Stage, copy_files, make_files, set_caught_up_at

MakeStage = Callable[..., Stage]
"""``(replicas=2, policy={...}, engine_options=..., ...)`` -> a Stage, closed after the test."""


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Seeded files, to be copied."""
    return make_files(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def mariadb_tables(mariadb_cluster: Cluster) -> Iterator[Engine]:
    """The tables on the shared cluster; an engine on its primary."""
    engine = create_engine(mariadb_cluster.primary.url, connect_args={"ssl_disabled": True})
    Base.metadata.create_all(engine)
    reseed(mariadb_cluster, engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()
    mariadb_cluster.wait_caught_up()


def reseed(cluster: Cluster, primary: Engine) -> None:
    """The tables as every test expects them, on all servers."""
    with primary.begin() as connection:
        seed(connection)
    cluster.wait_caught_up()


@pytest.fixture
def sqlite_urls(sqlite_template: list[str], tmp_path: Any) -> list[str]:
    """Files of the test's own: a primary and two replicas."""
    urls = copy_files(sqlite_template, tmp_path)
    for url in urls[1:]:
        set_caught_up_at(Path(url.removeprefix("sqlite:///")), time.time())
    return urls


@pytest.fixture
def mariadb_urls(mariadb_cluster: Cluster, mariadb_tables: Engine) -> Iterator[list[str]]:
    """The shared cluster's primary and replicas; the tables are seeded anew after the test."""
    yield [mariadb_cluster.primary.url, *(replica.url for replica in mariadb_cluster.replicas)]
    reseed(mariadb_cluster, mariadb_tables)


@pytest.fixture
def on_sqlite(sqlite_urls: list[str]) -> Iterator[MakeStage]:
    """Makes stages on SQLite files."""
    with contextlib.ExitStack() as opened:

        def make(**options: Any) -> Stage:
            return opened.enter_context(contextlib.closing(Stage(sqlite_urls, **options)))

        yield make


@pytest.fixture
def on_mariadb(mariadb_cluster: Cluster, mariadb_urls: list[str]) -> Iterator[MakeStage]:
    """Makes stages on the MariaDB cluster."""
    with contextlib.ExitStack() as opened:

        def make(**options: Any) -> Stage:
            return opened.enter_context(contextlib.closing(Stage(mariadb_urls, cluster=mariadb_cluster, **options)))

        yield make


@pytest.fixture(scope="session")
def shared_mariadb_stage(mariadb_cluster: Cluster, mariadb_tables: Engine) -> Iterator[Stage]:
    """One router for all tests that change none of its settings."""
    urls = [mariadb_cluster.primary.url, *(replica.url for replica in mariadb_cluster.replicas)]
    with contextlib.closing(Stage(urls, cluster=mariadb_cluster)) as shared:
        yield shared


@pytest.fixture
def mariadb_stage(mariadb_cluster: Cluster, mariadb_tables: Engine, shared_mariadb_stage: Stage) -> Iterator[Stage]:
    """The shared router, its record empty, its tables as seeded."""
    yield from lent(shared_mariadb_stage, mariadb_cluster, mariadb_tables)


def lent(shared: Stage, cluster: Cluster, tables: Engine) -> Iterator[Stage]:
    """A shared stage to one test, and left as it was found."""
    shared.forget()
    yield shared
    shared.close_sessions()
    token_router._noted.set(())  # what this test wrote without a session is not the next one's
    if "primary" in shared.record.parts:
        reseed(cluster, tables)
        shared.refresh()


@pytest.fixture(scope="session")
def postgresql_tables(postgresql_cluster: Cluster) -> Iterator[Engine]:
    """The tables on the shared cluster; an engine on its primary."""
    engine = create_engine(postgresql_cluster.primary.url)
    Base.metadata.create_all(engine)
    reseed(postgresql_cluster, engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()
    postgresql_cluster.wait_caught_up()


@pytest.fixture(scope="session")
def pgbouncer_urls(postgresql_cluster: Cluster) -> Iterator[list[str]]:
    """The shared PostgreSQL cluster, each server behind a pgbouncer in transaction mode."""
    if program() is None:
        missing("pgbouncer", "pgbouncer is not installed")
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(bouncing(each)) for each in postgresql_cluster.servers]


@pytest.fixture(scope="session")
def shared_pgbouncer_stage(
    postgresql_cluster: Cluster, postgresql_tables: Engine, pgbouncer_urls: list[str]
) -> Iterator[Stage]:
    """One router under the policy for RDS Proxy, for all tests that change none of its settings."""
    with contextlib.closing(Stage(pgbouncer_urls, cluster=postgresql_cluster, behind_proxy=True)) as shared:
        yield shared


@pytest.fixture
def pgbouncer_stage(
    postgresql_cluster: Cluster, postgresql_tables: Engine, shared_pgbouncer_stage: Stage
) -> Iterator[Stage]:
    """The shared router, its record empty, its tables as seeded."""
    yield from lent(shared_pgbouncer_stage, postgresql_cluster, postgresql_tables)


@pytest.fixture
def on_pgbouncer(
    postgresql_cluster: Cluster, postgresql_tables: Engine, pgbouncer_urls: list[str]
) -> Iterator[MakeStage]:
    """Makes stages under the policy for RDS Proxy."""
    with contextlib.ExitStack() as opened:

        def make(**options: Any) -> Stage:
            stage = Stage(pgbouncer_urls, cluster=postgresql_cluster, behind_proxy=True, **options)
            return opened.enter_context(contextlib.closing(stage))

        yield make
    reseed(postgresql_cluster, postgresql_tables)


ENGINES = ["sqlite", "mariadb", "pgbouncer"]


@pytest.fixture(params=ENGINES)
def make_stage(request: pytest.FixtureRequest) -> MakeStage:
    """Makes stages on each engine in turn."""
    made: MakeStage = request.getfixturevalue(f"on_{request.param}")
    return made


@pytest.fixture(params=ENGINES)
def stage(request: pytest.FixtureRequest) -> Stage:
    """A primary and two replicas under the default policy, on each engine in turn."""
    if request.param != "sqlite":
        shared: Stage = request.getfixturevalue(f"{request.param}_stage")
        return shared
    make: MakeStage = request.getfixturevalue("on_sqlite")
    return make()
