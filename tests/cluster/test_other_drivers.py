"""Drivers that cannot end their own wait: whoever watches the server hangs up for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.dialects.base import Verdict
from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import eligible

DRIVERS = [
    ("mysql", "mysqldb", "MySQLdb", {}),
    ("mysql", "mysqlconnector", "mysql.connector", {"use_pure": True}),
    ("postgresql", "psycopg2", "psycopg2", {}),
]


@pytest.mark.parametrize(("engine", "driver", "module", "options"), DRIVERS, ids=[driver for _, driver, *_ in DRIVERS])
def test_a_frozen_replica_does_not_keep_its_reader(
    request: pytest.FixtureRequest, engine: str, driver: str, module: str, options: dict[str, Any]
) -> None:
    """A read that takes long on a healthy server goes on; when its server freezes it ends, as one of a server that is
    gone, which a session runs again elsewhere."""
    pytest.importorskip(module, reason=f"{module} is not installed")
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    primary, *replicas = (
        Replica(make_url(each.url).set(drivername=f"{engine}+{driver}"), name=each.name) for each in c.servers
    )
    policy = RoutingPolicy(read_deadline=0.8, probe_interval=0.2, probe_timeout=0.5, share_observations=False)
    with Router(primary, replicas, policy=policy, engine_options={"connect_args": options}) as router:
        assert router.refresh(30)
        assert eventually(lambda: len(eligible(router)) == 2)
        frozen = c.replicas[0]
        errors: list[Exception] = []

        def read() -> None:
            pause = text(f"SELECT {'pg_sleep' if engine == 'postgresql' else 'SLEEP'}(600)")
            try:
                with router.replica_engine(frozen.name).connect() as connection:
                    connection.execute(pause)
            except DBAPIError as error:
                errors.append(error.orig)  # type: ignore[arg-type]

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(2.5)
        assert thread.is_alive()
        c.freeze(frozen)
        try:
            thread.join(60)
            assert not thread.is_alive()
            (error,) = errors
            assert router.verdict_of(error) is Verdict.GONE
            assert eventually(lambda: eligible(router) == [c.replicas[1].name])
            with RoutingSession(router=router) as session:
                assert session.scalar(text("SELECT 1")) == 1
        finally:
            c.thaw(frozen)
        assert eventually(lambda: len(eligible(router)) == 2)
        with router.replica_engine(frozen.name).connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    c.wait_caught_up(timeout=30)
