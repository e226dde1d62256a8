"""Aurora MySQL: replicas share the primary's storage, so there is no position to wait for, and lag is milliseconds.

Of replica_host_status AWS documents server, session, CPU, lag and time stamp; "the remaining columns are for Aurora
internal use only", LSNs among them.
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Reference.ISTables.html

Not run against Aurora: the SQL is published by AWS, and tests answer it from tables on real servers.
"""

from __future__ import annotations

from dataclasses import replace

from rds_router.core.observation import Report, Role
from rds_router.core.position import WallClock
from rds_router.dialects.aurora import lag_of, newest_primary, own_line
from rds_router.dialects.base import Answers, Query
from rds_router.dialects.members import Member, Membership, member_of, with_one_primary
from rds_router.dialects.mysql import MYSQL
from rds_router.dialects.reading import first_row, is_on, rows_of, text_of

IS_AURORA = "SHOW VARIABLES LIKE 'aurora_version'"
_STATUS = (
    "SELECT server_id AS server_id, session_id AS session_id, replica_lag_in_milliseconds AS lag_ms,"
    " last_update_timestamp AS updated,"
    " TIMESTAMPDIFF(MICROSECOND, last_update_timestamp, CURRENT_TIMESTAMP(6)) / 1000000 AS age"
    " FROM information_schema.replica_host_status"
)


def read(answers: Answers, /) -> Report:
    """Role by innodb_read_only, which alone says it there; lag by this server's own line, while that is kept up."""
    server = first_row(answers, "server")
    is_read_only = is_on(server.get("innodb_read_only"))
    role = Role.UNKNOWN if is_read_only is None else Role.REPLICA if is_read_only else Role.PRIMARY
    identifier = text_of(server.get("server_id")) or ""
    return Report(
        role=role,
        lag=lag_of(own_line(rows_of(answers, "status"), identifier)) if is_read_only else None,
        is_writable=None if is_read_only is None else not is_read_only,
        follows=is_read_only,
        identity=identifier,
    )


def read_members(answers: Answers, /) -> tuple[Member, ...]:
    """Everybody whose line is kept up; of several that claim to be the primary the one heard of last."""
    alive, primary = newest_primary(rows_of(answers, "status") or ())
    return with_one_primary([member_of(row.get("server_id")) for row in alive], primary)


_QUERY = Query("status", _STATUS, grant="SELECT ON information_schema.*", without="who belongs to the cluster, and lag")
AURORA_MYSQL = replace(
    MYSQL,
    probe=(
        Query("server", "SELECT @@global.innodb_read_only AS innodb_read_only, @@aurora_server_id AS server_id"),
        _QUERY,
    ),
    read=read,
    # With binlogs on there are GTIDs, but no replica says which of them it shows.
    position_after_write=None,
    parse_position=WallClock.parse,
)
AURORA_MYSQL_MEMBERS = Membership("Aurora MySQL", IS_AURORA, (_QUERY,), read_members)
