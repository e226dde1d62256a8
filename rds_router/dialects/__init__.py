"""The engine families, and which one a server belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from rds_router.dialects.aurora_mysql import AURORA_MYSQL, AURORA_MYSQL_MEMBERS
from rds_router.dialects.aurora_postgresql import AURORA_POSTGRESQL, AURORA_POSTGRESQL_MEMBERS
from rds_router.dialects.base import Answers, Denied, Dialect, Query, Row, Verdict
from rds_router.dialects.generic import GENERIC
from rds_router.dialects.mariadb import MARIADB
from rds_router.dialects.members import Membership
from rds_router.dialects.mysql import MYSQL
from rds_router.dialects.postgresql import POSTGRESQL
from rds_router.dialects.probe import run_probe
from rds_router.dialects.rds_multi_az import RDS_MULTI_AZ_MYSQL, RDS_MULTI_AZ_POSTGRESQL
from rds_router.dialects.sqlite import SQLITE

__all__ = [
    "AURORA_MYSQL",
    "AURORA_POSTGRESQL",
    "GENERIC",
    "MARIADB",
    "MYSQL",
    "POSTGRESQL",
    "SQLITE",
    "Answers",
    "Denied",
    "Dialect",
    "Query",
    "Row",
    "Verdict",
    "dialect_for",
    "run_probe",
    "told_dialect",
]

_BY_BACKEND: dict[str, Dialect] = {
    "mysql": MYSQL,
    "mariadb": MARIADB,
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
}


VARIANTS: Final[Mapping[str, tuple[tuple[str, Dialect], ...]]] = {
    "mysql": ((AURORA_MYSQL_MEMBERS.is_there, AURORA_MYSQL),),
    "postgresql": ((AURORA_POSTGRESQL_MEMBERS.is_there, AURORA_POSTGRESQL),),
}
"""Backend name -> SQL that has a row where a server is probed by another dialect's questions, and that dialect."""
MEMBERSHIPS: Final[Mapping[str, tuple[Membership, ...]]] = {
    "mysql": (AURORA_MYSQL_MEMBERS, RDS_MULTI_AZ_MYSQL),
    "postgresql": (AURORA_POSTGRESQL_MEMBERS, RDS_MULTI_AZ_POSTGRESQL),
}
"""Backend name -> how its clusters tell who belongs to them."""


def dialect_for(name: str, server_version: str | None = None, *, behind_proxy: bool = False) -> Dialect:
    """The dialect of a database URL (``mysql+pymysql://...``) or of a SQLAlchemy backend name (``mysql``).

    A ``mysql`` URL may lead to a MariaDB server. Ask again after the first connect, with what ``SELECT VERSION()``
    said: a version that names MariaDB makes it ``mariadb``. A ``mariadb`` URL is taken at its word: SQLAlchemy
    itself refuses any other server there. A name not known here gets the generic dialect, under that name: what
    SQLAlchemy renders for this engine alone, as ``with_hint(..., "mssql")``, must not be overlooked. ``behind_proxy``:
    nothing is asked but whether somebody answers, and nothing is set.
    """
    backend = name.partition(":")[0].partition("+")[0].lower()
    dialect = _BY_BACKEND.get(backend) or (replace(GENERIC, name=backend) if backend else GENERIC)
    if dialect is MYSQL and "mariadb" in (server_version or "").lower():
        dialect = MARIADB
    return _through_proxy(dialect) if behind_proxy else dialect


def told_dialect(backend: str, execute: Callable[[str], Sequence[Row]], *, behind_proxy: bool = False) -> Dialect:
    """The dialect of a server that can be asked.

    ``mysql://`` may lead to MariaDB, which its version tells; and either engine's URL to Aurora.
    """
    dialect = dialect_for(backend, behind_proxy=behind_proxy)
    if dialect.name == "mysql":
        (row,) = execute("SELECT @@version AS version")
        dialect = dialect_for(backend, str(row["version"]), behind_proxy=behind_proxy)
    if behind_proxy:
        return dialect
    return next((variant for sql, variant in VARIANTS.get(dialect.name, ()) if execute(sql)), dialect)


@cache
def _through_proxy(dialect: Dialect) -> Dialect:
    """Who answers is whichever server the proxy has chosen, this time: what it says of itself holds for no other."""
    return replace(dialect, probe=GENERIC.probe, read=GENERIC.read, position_after_write=None, guard=(), started=None)
