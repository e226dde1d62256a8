"""RDS Multi-AZ DB clusters: ordinary MySQL and PostgreSQL replicas, whose list any of them tells.

Not run against RDS: the SQL is published by AWS, and tests answer it from a table and functions on real servers.
"""

from __future__ import annotations

from rds_router.dialects.base import Answers, Query
from rds_router.dialects.members import Member, Membership, member_of, with_one_primary
from rds_router.dialects.reading import first_row, rows_of, text_of


def read_mysql(answers: Answers, /) -> tuple[Member, ...]:
    """The primary is whom this server follows, or itself if it follows nobody."""
    followed = rows_of(answers, "replication")
    if followed is None:
        return ()
    status = followed[0] if followed else {}
    source = status.get("Source_Server_Id", status.get("Master_Server_Id"))
    primary = text_of(source) if followed else text_of(first_row(answers, "own").get("id"))
    return _listed(answers, primary)


def read_postgresql(answers: Answers, /) -> tuple[Member, ...]:
    """The primary is told by its resource id, or it is this server if nobody is."""
    own = first_row(answers, "own")
    return _listed(answers, text_of(own.get("source")) or text_of(own.get("id")))


def _listed(answers: Answers, primary: str | None) -> tuple[Member, ...]:
    rows = rows_of(answers, "topology") or ()
    members = [member_of(row.get("id"), row.get("endpoint"), row.get("port")) for row in rows]
    return with_one_primary(members, primary) if all(each.host for each in members) else ()


_MEMBERS = "who belongs to the cluster"
RDS_MULTI_AZ_MYSQL = Membership(
    "RDS Multi-AZ DB cluster (MySQL)",
    # Ordinary instances have the table too, during a blue/green deployment, with other columns.
    "SELECT 1 AS found FROM information_schema.columns WHERE table_schema = 'mysql' AND table_name = 'rds_topology'"
    " GROUP BY table_name HAVING SUM(column_name = 'id') = 1 AND SUM(column_name = 'role') = 0",
    (
        Query(
            "topology", "SELECT id, endpoint, port FROM mysql.rds_topology", "SELECT ON mysql.rds_topology", _MEMBERS
        ),
        Query(
            "replication",
            "SHOW REPLICA STATUS",
            grant="REPLICATION CLIENT ON *.*",
            without=_MEMBERS,
            otherwise=("SHOW SLAVE STATUS",),
        ),
        Query("own", "SELECT @@global.server_id AS id"),
    ),
    read_mysql,
)
RDS_MULTI_AZ_POSTGRESQL = Membership(
    "RDS Multi-AZ DB cluster (PostgreSQL)",
    "SELECT 1 AS found WHERE to_regproc('rds_tools.show_topology') IS NOT NULL",
    (
        Query(
            "topology",
            "SELECT id::text AS id, endpoint, port FROM rds_tools.show_topology('rds_router')",
            grant="EXECUTE ON FUNCTION rds_tools.show_topology(text)",
            without=_MEMBERS,
        ),
        Query(
            "own",
            "SELECT rds_tools.dbi_resource_id()::text AS id,"
            " rds_tools.multi_az_db_cluster_source_dbi_resource_id()::text AS source",
            grant="EXECUTE ON ALL FUNCTIONS IN SCHEMA rds_tools",
            without=_MEMBERS,
        ),
    ),
    read_postgresql,
)
