"""Where the blog lives on a database: a schema of its own, made and removed, or the refusal to.

To make it is the test for whether it is there: ``CREATE`` without ``IF NOT EXISTS`` refuses what exists, and no right
to look around is needed. Nothing is ever removed that this program has not made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import inspect, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from rds_router import Router
from rds_router.comparison.blog import PREFIX, Base
from rds_router.credentials import Credentials, Tls
from rds_router.errors import ConfigurationError, RouterError
from rds_router.monitor import one_line
from rds_router.servers import policy_for

SECONDS_A_STATEMENT: Final = 30
"""After so long PyMySQL gives up a server that does not answer."""


class Refused(RouterError):
    """The comparison does not begin, and nothing was changed: the text says why."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an engine family calls a schema, how it is made and removed, and how the server says that it is there."""

    noun: str
    create: str
    drop: str
    exists: int | str


_KINDS: Final = {
    # The same character set on both sides, whatever is each server's default.
    "mysql": _Kind("database", "CREATE DATABASE {} CHARACTER SET utf8mb4", "DROP DATABASE {}", 1007),
    "postgresql": _Kind("schema", "CREATE SCHEMA {}", "DROP SCHEMA {} CASCADE", "42P06"),
}
_KINDS["mariadb"] = _KINDS["mysql"]


class Place:
    """One side's servers, and the schema on them."""

    def __init__(
        self,
        letter: str,
        primary: str,
        replicas: Sequence[str] = (),
        *,
        schema: str = PREFIX,
        clients: int = 4,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Raises ConfigurationError for what cannot work. Connects to nothing."""
        self.letter = letter
        self._url = _checked(letter, primary)
        self._schema = schema
        self._kind = _KINDS.get(self._url.get_backend_name())
        self._is_made = False
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", schema):
            raise ConfigurationError(f"a schema's name is made of a-z, 0-9 and _, not {schema!r}")
        if self._kind is None and schema != PREFIX:
            raise ConfigurationError(f"{letter}: SQLite has no schemas; its tables are called {PREFIX}_*")
        options: dict[str, Any] = {"pool_size": clients, "max_overflow": 2}
        if self._kind is not None:
            options["execution_options"] = {"schema_translate_map": {None: schema}}
        if self._url.get_driver_name() == "pymysql":
            options["connect_args"] = {"read_timeout": SECONDS_A_STATEMENT, "write_timeout": SECONDS_A_STATEMENT}
        # To know the lag takes a right that the account may not have; positions, which tokens are compared with, take
        # none: nobody reads behind what he wrote or saw.
        policy = replace(policy_for(self._url), unknown_lag="allow")
        self.router = Router(
            self._url, replicas, policy=policy, engine_options=options, credentials=credentials, tls=tls
        )
        self.version = ""

    def __str__(self) -> str:
        """``MySQL 9.7.4 at db.example:3306``: no user, no password."""
        at = self._url.host or self._url.database
        port = f":{self._url.port}" if self._url.port else ""
        return f"{self.version or self._url.get_backend_name()} at {at}{port}"

    @property
    def what(self) -> str:
        """``the database rds_router_compare``."""
        return f"the {self._kind.noun} {self._schema}" if self._kind else f"the tables {PREFIX}_*"

    @property
    def removal(self) -> str:
        """The SQL that removes what was made."""
        if self._kind is None:
            return "; ".join(f"DROP TABLE {table.name}" for table in reversed(Base.metadata.sorted_tables))
        return self._kind.drop.format(self._schema)

    def make(self) -> None:
        """The schema and its empty tables. Raises Refused, having changed nothing."""
        self.router.refresh()
        engine = self.router.primary_engine()
        try:
            with engine.begin() as connection:
                self.version = _version(connection)
                if self._kind is None:
                    self._refuse_tables(connection)
                else:
                    self._create(connection, self._kind)
                self._is_made = True
            Base.metadata.create_all(engine, checkfirst=False)
        except (DBAPIError, RouterError) as error:
            if isinstance(error, Refused):
                raise
            raise Refused(f"{self.letter} ({self}): {self.readable(error)}") from None

    def remove(self) -> bool:
        """What was made is dropped, and nothing else. True if there was something to drop."""
        if not self._is_made:
            return False
        engine = self.router.primary_engine()
        if self._kind is None:
            Base.metadata.drop_all(engine)
        else:
            with engine.begin() as connection:
                connection.execute(text(self.removal))
        self._is_made = False
        return True

    def readable(self, error: BaseException) -> str:
        """An error in one line, without the statement and without the password."""
        return one_line(getattr(error, "orig", None) or error, self._url)

    def close(self) -> None:
        """The end of its connections."""
        self.router.close()

    def _create(self, connection: Connection, kind: _Kind) -> None:
        try:
            connection.execute(text(kind.create.format(self._schema)))
        except DBAPIError as error:
            if kind.exists not in _codes(error):
                raise
            raise Refused(
                f"{self.letter} ({self}) has a {kind.noun} {self._schema} already: nothing was touched. If an earlier "
                f"comparison was killed, {kind.drop.format(self._schema)}; else give another name with --schema"
                f"{'-b' if self.letter == 'B' else ''}"
            ) from None

    def _refuse_tables(self, connection: Connection) -> None:
        found = [name for name in inspect(connection).get_table_names() if name.startswith(PREFIX)]
        if found:
            raise Refused(f"{self.letter} ({self}) has a table {found[0]} already: nothing was touched")


def _checked(letter: str, given: str) -> URL:
    try:
        url = make_url(given)
        family = url.get_backend_name()
    except ArgumentError:
        raise ConfigurationError(f"{letter} is no URL: mysql+pymysql://user@host/, for example") from None
    if family not in (*_KINDS, "sqlite"):
        raise ConfigurationError(f"{letter}: {family} cannot be compared; MySQL, MariaDB, PostgreSQL and SQLite can")
    if family == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigurationError(f"{letter}: a SQLite database must be a file")
    return url


def _version(connection: Connection) -> str:
    name = connection.dialect.name
    if name == "sqlite":
        return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"
    told = str(connection.scalar(text("SELECT version()")))
    if name == "postgresql":
        return " ".join(told.split()[:2])
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    return f"{'MariaDB' if is_mariadb else 'MySQL'} {told.split('-')[0]}"


def _codes(error: DBAPIError) -> set[Any]:
    """By which the server may be recognised to have said something: MySQL's number, PostgreSQL's SQLSTATE."""
    original: Any = error.orig
    return {*original.args[:1], getattr(original, "sqlstate", None), getattr(original, "pgcode", None)}
