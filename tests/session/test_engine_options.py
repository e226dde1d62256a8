"""What the user sets for his engines holds where he means it, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.pool import NullPool, StaticPool

from rds_router import ConfigurationError, Router, RoutingPolicy
from rds_router.drivers import not_installed
from rds_router.lab import Cluster
from rds_router.primary_faults import is_autocommitting


@pytest.mark.parametrize("option", ["creator", "pool"])
@pytest.mark.parametrize("whose", ["engine_options", "replica_engine_options"])
def test_what_leads_every_engine_to_one_server_is_refused(option: str, whose: str, tmp_path: Path) -> None:
    given: Any = {whose: {option: object()}}
    with pytest.raises(ConfigurationError, match=f"'{option}' connects every engine to the same server"):
        Router(f"sqlite:///{tmp_path}/p.db", [f"sqlite:///{tmp_path}/r.db"], **given)


def test_without_replicas_it_is_a_plain_engines_affair(tmp_path: Path) -> None:
    """R8."""
    with Router("sqlite://", engine_options={"poolclass": StaticPool, "pool_reset_on_return": None}) as router:
        assert router.primary_engine().pool.__class__ is StaticPool
    with Router("sqlite://", engine_options={"pool": NullPool(lambda: None)}) as router:  # type: ignore[arg-type, return-value]
        assert router.primary_engine().pool.__class__ is NullPool


def test_an_isolation_level_for_all_is_the_primarys(tmp_path: Path) -> None:
    """How replicas run is for replica_transactions to say; their own option wins."""
    urls = f"sqlite:///{tmp_path}/p.db", [f"sqlite:///{tmp_path}/r.db"]
    level = {"isolation_level": "READ UNCOMMITTED"}
    with Router(*urls, engine_options=level) as router:
        replica = router.replica_engine(router.topology.replicas[0].server.name)
        assert is_autocommitting(replica)
        with router.primary_engine().connect() as connection:
            assert connection.get_isolation_level() == "READ UNCOMMITTED"
    with Router(*urls, replica_engine_options=level) as router:
        assert not is_autocommitting(router.replica_engine(router.topology.replicas[0].server.name))


@pytest.fixture(params=["mysql", "mariadb", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


@pytest.mark.parametrize("level", [None, "READ COMMITTED"])
def test_a_replica_is_guarded_whatever_its_isolation_level(shared: Cluster, level: str | None) -> None:
    """R9, also after a rollback, which on PostgreSQL undoes a SET; here the "replica" is writable."""
    own = {} if level is None else {"isolation_level": level}
    with Router(shared.primary.url, [shared.replicas[0].url], replica_engine_options=own) as router:
        engine = router._engines.get(router.topology.writer, "replica")
        for _ in range(2):
            with engine.connect() as connection, pytest.raises(Exception, match=r"(?i)read.only"):
                connection.execute(text("CREATE TABLE guarded (id INTEGER)"))


def test_a_do_connect_listener_of_the_users_is_asked(mariadb_cluster: Cluster) -> None:
    """SQLAlchemy's recipe for passwords that change: the listener alters the parameters."""
    asked: list[str] = []

    def on_engine(engine: Any, server: str, part: str) -> None:
        @event.listens_for(engine, "do_connect")
        def do_connect(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
            asked.append(part)
            parameters["password"] = password

    password = make_url(mariadb_cluster.primary.url).password
    urls = [make_url(server.url).set(password="old") for server in mariadb_cluster.servers[:2]]
    with Router(urls[0], [urls[1]], on_engine=on_engine, policy=RoutingPolicy(read_deadline=5.0)) as router:
        with router.primary_engine(start=False).connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        with router.replica_engine(router.topology.replicas[0].server.name).connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    assert asked == ["primary", "replica"]


def test_no_password_in_what_is_said_of_a_missing_driver() -> None:
    error = not_installed(make_url("mysql+nothing://u:hunter2@h/d?passwd=hunter2"), ImportError("nothing"))
    assert "hunter2" not in str(error)
