"""Talking to the servers of a cluster, each time over a new connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from rds_router.lab import Server

SERVERS = ("mariadb", "mysql", "postgresql")
ENGINES = (*SERVERS, "sqlite")

Run = Callable[..., Any]
"""``run(url or server, sql)`` -> the first value of the first row, or None."""


def engine_for(where: Server | str) -> Engine:
    """An engine without a pool, in autocommit, that does not hang on a frozen server."""
    url = where if isinstance(where, str) else where.url
    timeouts: dict[str, Any] = {"connect_timeout": 2}
    if url.startswith("mysql"):
        timeouts["read_timeout"] = 2
    return create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={} if url.startswith("sqlite") else timeouts,
    )


@pytest.fixture
def run() -> Run:
    """Run one statement on a server, or at a URL."""

    def run_on(where: Server | str, sql: str) -> Any:
        with engine_for(where).connect() as connection:
            result = connection.execute(text(sql))
            return result.scalar() if result.returns_rows else None

    return run_on


@pytest.fixture(params=ENGINES)
def any_engine(request: pytest.FixtureRequest) -> str:
    """Each engine there is."""
    return str(request.param)


@pytest.fixture(params=SERVERS)
def server_engine(request: pytest.FixtureRequest) -> str:
    """Each engine with servers."""
    return str(request.param)
