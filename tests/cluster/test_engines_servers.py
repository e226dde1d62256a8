"""What the engines make of real servers: one TLS context an engine, options of the replicas' own, Alembic."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Integer, MetaData, Table, inspect, make_url, text

from rds_router import Router, RoutingPolicy
from rds_router.lab import Cluster


def test_an_engine_builds_one_tls_context_for_all_its_connections(
    mariadb_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyMySQL alone builds one for each connect, 22 to 33 ms of CPU."""
    from pymysql.connections import Connection

    built: list[ssl.SSLContext] = []
    original = Connection._create_ssl_ctx

    def counting(self: Any, settings: Any) -> Any:
        context = original(self, settings)
        built.append(context)
        return context

    monkeypatch.setattr(Connection, "_create_ssl_ctx", counting)
    with Router(mariadb_cluster.primary.url) as router:
        engine = router.primary_engine()
        connections = [engine.connect() for _ in range(4)]
        for connection in connections:
            connection.close()
    assert len(built) == 1


def test_the_monitor_connects_to_replicas_with_their_own_options(mariadb_cluster: Cluster) -> None:
    """A replica's password in its engine options: its probes need it too."""
    replica = mariadb_cluster.replicas[0]
    password = make_url(replica.url).password
    without = make_url(replica.url)._replace(password=None)
    with Router(
        mariadb_cluster.primary.url,
        [without],
        policy=RoutingPolicy(probe_interval=600),
        replica_engine_options={"connect_args": {"password": password}},
    ) as router:
        assert router.refresh()
        assert len(router.topology.eligible) == 1, router
        with router.reader.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1


def test_alembic_migrates_the_primary_of_the_moment(mariadb_cluster: Cluster) -> None:
    """router.primary stands in for an engine."""
    metadata = MetaData()
    Table("alembic_seen", metadata, Column("id", Integer, primary_key=True))
    with Router(mariadb_cluster.primary.url, [each.url for each in mariadb_cluster.replicas]) as router:
        with router.primary.connect() as connection:
            context = MigrationContext.configure(connection)
            differences = [each for each in compare_metadata(context, metadata) if each[0] == "add_table"]
            assert [each[1].name for each in differences] == ["alembic_seen"]
            with context.begin_transaction():
                Operations(context).create_table("alembic_seen", Column("id", Integer, primary_key=True))
        mariadb_cluster.wait_caught_up()
        assert inspect(router.primary).has_table("alembic_seen")
        with router.reader.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM alembic_seen")) == 0
        metadata.drop_all(router.primary)
