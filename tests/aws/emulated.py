"""Real servers that tell their topology as Aurora and Multi-AZ DB clusters do.

PostgreSQL: functions of Aurora's and RDS's names and columns over a table that replicates. MySQL: Multi-AZ's table is a
table; what Aurora answers from its own variables and views is asked through a front that names that table instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import make_url

from rds_router import Router
from rds_router.discovery import Find
from rds_router.lab import Cluster, Server
from tests.aws.mysql_front import MysqlFront
from tests.cluster.watching import run

DOMAIN = "abc.eu-west-1.rds.amazonaws.com"
PRIMARY = "MASTER_SESSION_ID"


@dataclass
class Emulated:
    """One cluster. ``ports`` is where each instance is reached; ``endpoint`` what the cluster's own name leads to."""

    kind: str
    cluster: Cluster
    ports: dict[str, int]
    endpoint: int = 0
    lags: dict[str, str] = field(default_factory=dict)
    fronts: dict[str, MysqlFront] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return sorted(self.ports)

    def find(self, **changes: object) -> Find:
        """How to find it: instances by their names under DOMAIN, which lead to this machine."""
        how = {"instances": f"?.{DOMAIN}", "reach": self.reach, "interval": 0.1, **changes}
        return Find(**how)  # type: ignore[arg-type]

    def reach(self, host: str, port: int) -> tuple[str, int]:
        name, _, rest = host.partition(".")
        return ("127.0.0.1", self.ports[name]) if rest == DOMAIN else (host, port)

    def router(self, **options: object) -> Router:
        """``from_cluster`` by the cluster's name."""
        url = make_url(self.cluster.primary.url).set(port=self.endpoint or self.ports[self.cluster.primary.name])
        find = options.pop("find", None) or self.find()
        return Router.from_cluster(url, find=find, **options)  # type: ignore[arg-type]

    def tell(self, *rows: tuple[str, str, float | None, float], stamps_own: bool = False) -> None:
        """What every server tells from now on: (server, session, lag in ms, age of the line in seconds).

        ``stamps_own``: as Aurora PostgreSQL before 13.9. Since then a server's own line has no time stamp, and no age.
        """
        statements = ["DELETE FROM app_topology"]
        for server, session, lag, age in rows:
            values = f"'{server}', '{session}', {'NULL' if lag is None else lag}, {age}, {int(stamps_own)}"
            statements.append(f"INSERT INTO app_topology VALUES ({values})")
        run(self.cluster.primary.admin_url, *statements)
        self.cluster.wait_caught_up()

    def tell_truth(self, *, without: str = "") -> None:
        """Everybody but one, as the lab has it."""
        servers = [each for each in self.cluster.servers if each.name != without]
        self.tell(
            *((each.name, PRIMARY if each.is_primary else f"session of {each.name}", 5.0, 0.0) for each in servers)
        )


@contextmanager
def aurora_postgresql(cluster: Cluster) -> Iterator[Emulated]:
    """``pg_catalog`` gets Aurora's functions, with LSNs of PostgreSQL's log. The cluster is the test's own."""
    own = " ".join(f"WHEN {each.port} THEN '{each.name}'" for each in cluster.servers)
    run(
        cluster.primary.admin_url,
        "CREATE TABLE app_topology (server_id text, session_id text, lag_ms float8, age float8, stamps_own int)",
        "GRANT SELECT ON app_topology TO PUBLIC",
        # Superusers may, in a session that says so.
        "SET allow_system_table_mods = on;"
        " CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql STABLE AS"
        f" $$ SELECT CASE inet_server_port() {own} END $$;"
        " CREATE FUNCTION pg_catalog.aurora_replica_status() RETURNS TABLE (server_id text, session_id text,"
        " replica_lag_in_msec float8, last_update_timestamp timestamptz, durable_lsn int8, current_read_lsn int8)"
        f" LANGUAGE sql AS $$ SELECT server_id, session_id, CASE WHEN session_id <> '{PRIMARY}' THEN lag_ms END,"
        " CASE WHEN stamps_own = 1 OR server_id <> pg_catalog.aurora_db_instance_identifier()"
        " THEN clock_timestamp() - make_interval(secs => age) END,"
        " CASE WHEN pg_is_in_recovery() THEN 1 ELSE pg_current_wal_flush_lsn() - '0/0'::pg_lsn END::int8,"
        f" CASE WHEN session_id <> '{PRIMARY}' AND pg_is_in_recovery()"
        " THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END::int8"
        " FROM public.app_topology $$",
    )
    emulated = Emulated("postgresql", cluster, {each.name: each.port for each in cluster.servers})
    emulated.tell_truth()
    yield emulated


@contextmanager
def aurora_mysql(cluster: Cluster) -> Iterator[Emulated]:
    """Each server behind a front that answers for Aurora; the cluster is left as it was."""
    table = "CREATE TABLE app.app_topology (server_id VARCHAR(60), session_id VARCHAR(60), lag_ms DOUBLE, age DOUBLE,"
    run(cluster.primary.admin_url, f"{table} stamps_own INT)")
    with ExitStack() as opened:
        fronts = {
            each.name: opened.enter_context(MysqlFront(each, rewrite=_as_aurora(each), hides_tls=True))
            for each in cluster.servers
        }
        ports = {name: front.port for name, front in fronts.items()}
        emulated = Emulated("mysql", cluster, ports, fronts=fronts)
        emulated.tell_truth()
        yield emulated
    run(cluster.primary.admin_url, "DROP TABLE app.app_topology")
    cluster.wait_caught_up()


def _as_aurora(server: Server) -> Callable[[str], str]:
    changes: Mapping[str, str] = {
        r"^SHOW VARIABLES LIKE 'aurora_version'$": "SELECT 'aurora_version' AS Variable_name, '3.08.0' AS Value",
        r"@@aurora_server_id\b": f"'{server.name}'",
        r"@@global\.innodb_read_only\b": "@@global.read_only",
        r"\binformation_schema\.replica_host_status\b": "(SELECT server_id, session_id, lag_ms,"
        " CURRENT_TIMESTAMP(6) - INTERVAL age SECOND AS updated FROM app.app_topology) AS told",
        r"\breplica_lag_in_milliseconds\b": "lag_ms",
        r"\blast_update_timestamp\b": "updated",
    }

    def rewrite(sql: str) -> str:
        for pattern, replacement in changes.items():
            sql = re.sub(pattern, replacement, sql)
        return sql

    return rewrite


@contextmanager
def multi_az_mysql(cluster: Cluster) -> Iterator[Emulated]:
    """``mysql.rds_topology`` is a table, the rest is MySQL's own replication; the cluster is left as it was."""
    rows = ", ".join(f"({each.server_id}, '{each.name}.{DOMAIN}', {each.port})" for each in cluster.servers)
    run(
        cluster.primary.admin_url,
        "CREATE TABLE mysql.rds_topology (id INT, endpoint VARCHAR(200), port INT)",
        f"INSERT INTO mysql.rds_topology VALUES {rows}",
        "GRANT SELECT ON mysql.rds_topology TO 'app'@'%'",
    )
    cluster.wait_caught_up()
    yield Emulated("mysql", cluster, {each.name: each.port for each in cluster.servers})
    run(
        cluster.primary.admin_url,
        "REVOKE SELECT ON mysql.rds_topology FROM 'app'@'%'",
        "DROP TABLE mysql.rds_topology",
    )
    cluster.wait_caught_up()


@contextmanager
def multi_az_postgresql(cluster: Cluster) -> Iterator[Emulated]:
    """The schema ``rds_tools`` with RDS's functions; the cluster is left as it was."""
    own = " ".join(f"WHEN {each.port} THEN 'db-{each.name}'" for each in cluster.servers)
    rows = ", ".join(f"('db-{each.name}', '{each.name}.{DOMAIN}', {each.port})" for each in cluster.servers)
    run(
        cluster.primary.admin_url,
        "CREATE SCHEMA rds_tools",
        "GRANT USAGE ON SCHEMA rds_tools TO PUBLIC",
        "CREATE FUNCTION rds_tools.show_topology(text) RETURNS TABLE (id text, endpoint text, port int) LANGUAGE sql AS"
        f" $$ VALUES {rows} $$",
        "CREATE FUNCTION rds_tools.dbi_resource_id() RETURNS text LANGUAGE sql AS"
        f" $$ SELECT CASE inet_server_port() {own} END $$",
        "CREATE FUNCTION rds_tools.multi_az_db_cluster_source_dbi_resource_id() RETURNS text LANGUAGE sql AS"
        f" $$ SELECT CASE WHEN pg_is_in_recovery() THEN 'db-{cluster.primary.name}' END $$",
    )
    cluster.wait_caught_up()
    yield Emulated("postgresql", cluster, {each.name: each.port for each in cluster.servers})
    run(cluster.primary.admin_url, "DROP SCHEMA rds_tools CASCADE")
    cluster.wait_caught_up()
