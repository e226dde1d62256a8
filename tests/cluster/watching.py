"""A router that watches a cluster of the lab, and what happened meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rds_router import Replica, Router, RoutingPolicy
from rds_router.events import Event
from rds_router.lab import Cluster, Server

ENGINES = ("mariadb", "mysql", "postgresql")


def prompt(**policy: Any) -> RoutingPolicy:
    """A policy that notices fast."""
    return RoutingPolicy(**{"probe_interval": 0.2, "probe_timeout": 1.0, **policy})


@contextmanager
def watching(c: Cluster, *, account: str = "url", **policy: Any) -> Iterator[tuple[Router, list[Event]]]:
    """A router over the cluster's servers, named as the lab names them, and the events as they come."""
    primary, *replicas = (Replica(getattr(each, account), name=each.name) for each in (c.primary, *c.replicas))
    events: list[Event] = []
    with Router(primary, replicas, policy=prompt(**policy)) as router:
        router.events.listen(events.append)
        yield router, events


def eligible(router: Router) -> list[str]:
    """The replicas that would get reads now."""
    return [seen.server.name for seen in router.topology.eligible_at(router.clock())]


def monitor_threads() -> list[str]:
    """The names of the monitor threads that live."""
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("rds-router "))


def run(url: str, *statements: str) -> Any:
    """Run statements in autocommit; returns the last one's first value, if it has one."""
    value = None
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
            row = result.first() if result.returns_rows else None
            value = None if row is None else row[0]
    engine.dispose()
    return value


def renewals(c: Cluster) -> int:
    """How often anything was committed: on a cluster where only heartbeats are written, how often they were."""
    if c.engine == "postgresql":
        counted = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'rds_router_heartbeat'"
        return int(run(c.primary.admin_url, counted) or 0)
    if c.engine == "mariadb":
        return int(run(c.primary.admin_url, "SELECT @@gtid_binlog_pos").rpartition("-")[2])
    return int(run(c.primary.admin_url, "SELECT @@gtid_executed").rpartition("-")[2])


@contextmanager
def writing(server: Server) -> Iterator[None]:
    """Somebody writes on this server, some times a second, while the block runs."""
    run(server.url, "CREATE TABLE IF NOT EXISTS traffic (id INT PRIMARY KEY, n INT)", "DELETE FROM traffic")
    run(server.url, "INSERT INTO traffic VALUES (1, 0)")
    stop = threading.Event()

    def write() -> None:
        engine = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            while not stop.wait(0.1):
                connection.execute(text("UPDATE traffic SET n = n + 1"))
        engine.dispose()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10.0)
