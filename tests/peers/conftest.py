"""The stages of the session's tests."""

from tests.session.conftest import (
    make_stage,
    mariadb_stage,
    mariadb_tables,
    mariadb_urls,
    on_mariadb,
    on_sqlite,
    shared_mariadb_stage,
    sqlite_template,
    sqlite_urls,
    stage,
)

__all__ = [
    "make_stage",
    "mariadb_stage",
    "mariadb_tables",
    "mariadb_urls",
    "on_mariadb",
    "on_sqlite",
    "shared_mariadb_stage",
    "sqlite_template",
    "sqlite_urls",
    "stage",
]
