"""The torture's way through aws-advanced-python-wrapper: its "simple read/write splitting" between two endpoints.

Its failover plugin, and a list of several replicas, need a cluster whose topology it can ask (Aurora, RDS Multi-AZ).
There is none here, so what is measured is what it offers for other databases: one endpoint for writes, one for reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session, SessionTransaction

from rds_router.torture.jar import Cookie
from rds_router.torture.ways import Plain, Way


def way(task: Mapping[str, Any]) -> Way:
    """Made by ``rds_router.torture`` for ``kind="benchmarks.peers.aws:way"``."""
    return ThroughWrapper(task["servers"], task["primary"], task["threads"])


class ThroughWrapper(Plain):
    """One engine; a session that only reads says so on its connection, and the wrapper moves it to a replica."""

    def __init__(self, servers: Mapping[str, str], primary: str, threads: int) -> None:
        writer = make_url(servers[primary])
        reader = make_url(next(url for name, url in servers.items() if name != primary))
        is_mysql = writer.get_backend_name() == "mysql"
        driver = "mysql+aws_wrapper_mysqlconnector" if is_mysql else "postgresql+aws_wrapper_psycopg"
        self._engine: Engine = create_engine(
            writer.set(drivername=driver),
            pool_size=threads,
            max_overflow=threads,
            pool_pre_ping=True,
            connect_args={
                "plugins": "srw",
                "srw_write_endpoint": f"{writer.host}:{writer.port}",
                "srw_read_endpoint": f"{reader.host}:{reader.port}",
                "connect_timeout": 3,
                **({"read_timeout": 8, "write_timeout": 8} if is_mysql else {}),
            },
        )

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        session = Session(self._engine)

        @event.listens_for(session, "after_begin")
        def after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
            connection.connection.dbapi_connection.read_only = not writes  # type: ignore[union-attr]

        return session

    def server_of(self, connection: Connection) -> str:
        return ""

    def close(self) -> dict[str, int]:
        self._engine.dispose()
        return {}
