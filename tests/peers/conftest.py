"""The stages of the session's tests, on SQLite files and MariaDB: what the peers get wrong needs no pooler between."""

from __future__ import annotations

import pytest

from tests.session.conftest import (
    MakeStage,
    mariadb_stage,
    mariadb_tables,
    mariadb_urls,
    on_mariadb,
    on_sqlite,
    shared_mariadb_stage,
    sqlite_template,
    sqlite_urls,
)
from tests.session.stage import Stage

__all__ = [
    "mariadb_stage",
    "mariadb_tables",
    "mariadb_urls",
    "on_mariadb",
    "on_sqlite",
    "shared_mariadb_stage",
    "sqlite_template",
    "sqlite_urls",
]

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
