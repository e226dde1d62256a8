"""Aurora PostgreSQL: as Aurora MySQL, with functions in the place of tables, and LSNs of the storage they share.

https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html

Not run against Aurora: the SQL is published by AWS, and tests answer it from functions on real servers.
"""

from __future__ import annotations

from dataclasses import replace

from rds_router.core.observation import Report, Role
from rds_router.core.position import WallClock
from rds_router.dialects.aurora import lag_of, newest_primary, own_line, storage_of
from rds_router.dialects.base import Answers, Query
from rds_router.dialects.members import Member, Membership, member_of, with_one_primary
from rds_router.dialects.postgresql import POSTGRESQL
from rds_router.dialects.reading import first_row, is_on, rows_of, text_of

IS_AURORA = "SELECT 1 AS found WHERE to_regproc('pg_catalog.aurora_replica_status') IS NOT NULL"
_STATUS = (
    "SELECT server_id::text AS server_id, session_id::text AS session_id, replica_lag_in_msec::float8 AS lag_ms,"
    " durable_lsn::text AS durable_lsn, current_read_lsn::text AS current_read_lsn,"
    # From 13.9 on the line of the server that is asked has no time stamp: it is of now.
    " CASE WHEN last_update_timestamp IS NULL AND server_id::text = pg_catalog.aurora_db_instance_identifier()::text"
    " THEN 0 ELSE extract(epoch FROM clock_timestamp() - last_update_timestamp)::float8 END AS age"
    " FROM pg_catalog.aurora_replica_status()"
)


def read(answers: Answers, /) -> Report:
    """Role by pg_is_in_recovery(), lag and LSN by this server's own line, while that is kept up."""
    server = first_row(answers, "server")
    in_recovery = is_on(server.get("in_recovery"))
    identifier = text_of(server.get("server_id")) or ""
    line = own_line(rows_of(answers, "status"), identifier) if in_recovery is not None else {}
    storage, storage_age = storage_of(line, is_primary=in_recovery is False)
    return Report(
        role=Role.UNKNOWN if in_recovery is None else Role.REPLICA if in_recovery else Role.PRIMARY,
        lag=lag_of(line) if in_recovery else None,
        storage=storage,
        storage_age=storage_age,
        is_writable=None if in_recovery is None else not in_recovery and not is_on(server.get("default_read_only")),
        follows=in_recovery,
        identity=identifier,
    )


def read_members(answers: Answers, /) -> tuple[Member, ...]:
    """Everybody whose line is kept up; of several that claim to be the primary the one heard of last."""
    alive, primary = newest_primary(rows_of(answers, "status") or ())
    return with_one_primary([member_of(row.get("server_id")) for row in alive], primary)


_QUERY = Query(
    "status",
    _STATUS,
    grant="EXECUTE ON FUNCTION pg_catalog.aurora_replica_status()",
    without="who belongs to the cluster, and lag",
)
AURORA_POSTGRESQL = replace(
    POSTGRESQL,
    probe=(
        Query(
            "server",
            "SELECT pg_is_in_recovery() AS in_recovery, pg_catalog.aurora_db_instance_identifier() AS server_id,"
            " (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') AS default_read_only",
        ),
        _QUERY,
    ),
    read=read,
    position_after_write=None,
    parse_position=WallClock.parse,
    started="SELECT extract(epoch FROM pg_postmaster_start_time())::text AS started",
)
AURORA_POSTGRESQL_MEMBERS = Membership("Aurora PostgreSQL", IS_AURORA, (_QUERY,), read_members)
