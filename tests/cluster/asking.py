"""Talks to one server of a cluster as the monitor does: probe, position after a write, plain SQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from rds_router.core.observation import Report
from rds_router.core.position import Position
from rds_router.dialects import Dialect, Row, dialect_for, run_probe


class Asked:
    """One autocommit connection to one server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        version = str(self.value("SELECT sqlite_version()" if self._is_sqlite else "SELECT version()"))
        self.dialect: Dialect = dialect_for(connection.engine.url.get_backend_name(), version)

    def execute(self, sql: str) -> Sequence[Row]:
        result = self._connection.exec_driver_sql(sql)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def value(self, sql: str) -> Any:
        ((value,),) = (tuple(row.values()) for row in self.execute(sql))
        return value

    def report(self) -> Report:
        return run_probe(self.dialect, self.execute)

    def position(self) -> Position:
        position = self.report().position
        assert position is not None
        return position

    def token(self) -> Position:
        """What must be covered by whoever wants to read what was committed so far."""
        assert self.dialect.position_after_write is not None
        return self.dialect.parse_position(str(self.value(self.dialect.position_after_write)))

    def write(self) -> Position:
        """One committed row; returns its token."""
        self.execute("CREATE TABLE IF NOT EXISTS dialect_notes (id INT PRIMARY KEY, n INT)")
        self.execute("DELETE FROM dialect_notes")
        self.execute("INSERT INTO dialect_notes VALUES (1, 1)")
        return self.token()

    @property
    def _is_sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"


@contextmanager
def asked(url: str, **options: Any) -> Iterator[Asked]:
    """Connect, ask, disconnect."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool, **options)
    with engine.connect() as connection:
        yield Asked(connection)
    engine.dispose()


def eventually(question: Callable[[], bool], *, seconds: float = 15.0) -> bool:
    """True as soon as the question is; False if it never was, which the caller asserts on."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
