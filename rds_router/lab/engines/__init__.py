"""The engine families: replication's knobs in SQL, and how to make and start servers of each."""

from __future__ import annotations

from rds_router.lab.binaries import find
from rds_router.lab.engines.base import Engine, Options, Recipe
from rds_router.lab.engines.mysql_family import MariaDB, MySQL
from rds_router.lab.engines.mysql_local import MysqlRecipe
from rds_router.lab.engines.postgresql import PostgreSQL
from rds_router.lab.engines.postgresql_local import PostgresqlRecipe

__all__ = ["ENGINES", "Engine", "Options", "Recipe", "recipe"]

ENGINES: dict[str, Engine] = {"mariadb": MariaDB(), "mysql": MySQL(), "postgresql": PostgreSQL()}
"""Engines with servers; ``sqlite`` is not among them: it has none."""


def recipe(engine: str) -> Recipe:
    """How to make that engine's servers on this machine. Raises EngineMissing."""
    if engine == "postgresql":
        return PostgresqlRecipe(find(engine))
    return MysqlRecipe(engine, find(engine))
