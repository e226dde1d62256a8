"""Stages on SQLite files and on MariaDB."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from rds_router.lab import Cluster
from tests.session.models import Base, seed
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
    shared_mariadb_stage.forget()
    yield shared_mariadb_stage
    shared_mariadb_stage.close_sessions()
    if "primary" in shared_mariadb_stage.record.parts:
        reseed(mariadb_cluster, mariadb_tables)
        shared_mariadb_stage.refresh()


ENGINES = ["sqlite", "mariadb"]


@pytest.fixture(params=ENGINES)
def make_stage(request: pytest.FixtureRequest) -> MakeStage:
    """Makes stages on each engine in turn."""
    made: MakeStage = request.getfixturevalue(f"on_{request.param}")
    return made


@pytest.fixture(params=ENGINES)
def stage(request: pytest.FixtureRequest) -> Stage:
    """A primary and two replicas under the default policy, on each engine in turn."""
    if request.param == "mariadb":
        shared: Stage = request.getfixturevalue("mariadb_stage")
        return shared
    make: MakeStage = request.getfixturevalue("on_sqlite")
    return make()
