"""MariaDB 10.2 and later: role, lag and GTID lists. Errors and guard are MySQL's."""

from __future__ import annotations

from rds_router.core.observation import Report, Role
from rds_router.core.position import MariaDBGtidList
from rds_router.dialects.base import Answers, Dialect, Query, Row
from rds_router.dialects.heartbeat import MYSQL_NOW
from rds_router.dialects.mysql import READ_ONLY_SESSION, may_be_own_wish, role_of, seconds_behind, verdict_of_error
from rds_router.dialects.reading import first_row, furthest, is_on, rows_of, seconds_of, text_of


def read(answers: Answers, /) -> Report:
    """Reads the answers to the probe.

    Role and lag as on MySQL. The identity is server_id, host name and port: server_uid is younger than the
    versions we talk to.
    """
    server = first_row(answers, "server")
    connections = rows_of(answers, "replication")
    refusals = [is_on(server.get(name)) for name in ("read_only", "innodb_read_only")]
    is_writable = None if None in refusals else not any(refusals)
    follows = None if connections is None else bool(connections)
    role = role_of(follows=follows, is_writable=is_writable)
    position = _position(server, is_replica=role is Role.REPLICA)
    return Report(
        role=role,
        lag=furthest(seconds_behind(connection) for connection in connections or ()),
        position=position,
        holds=_holds(server) if role is Role.PRIMARY and position is not None else None,
        is_writable=is_writable,
        follows=follows,
        identity=_identity(server),
        clock=seconds_of(server.get("clock")),
    )


def _identity(server: Row) -> str:
    server_id, host, port = (text_of(server.get(name)) for name in ("server_id", "hostname", "port"))
    return f"{server_id}@{host}:{port}" if server_id and host and port else ""


def _position(server: Row, *, is_replica: bool) -> MariaDBGtidList | None:
    """Where this server stands in each domain; of a replica, also which other servers' GTIDs it contains.

    Three sources, each alone too little: gtid_slave_pos is right on a replica but stands still on a promoted one,
    and names only the last server of a domain; gtid_binlog_state names every server, but is written before the
    engine commits. So: gtid_slave_pos, this server's own GTIDs, and, on a replica, those of others up to where
    the applier is known to have committed. A primary shows its last GTIDs only, which a replica without a binary
    log can cover too. Without a binary log a server that applies nothing has no position at all.
    """
    applied = _gtids(server.get("gtid_slave_pos"))
    logged = _gtids(server.get("gtid_binlog_state"))
    own_id = text_of(server.get("server_id"))
    if applied is None or logged is None or own_id is None:
        return None
    if applied.is_empty and not is_on(server.get("log_bin")):
        return None
    own = tuple(gtid for gtid in logged.gtids if str(gtid[1]) == own_id)
    if not is_replica:
        last = {gtid[0]: gtid for gtid in sorted(applied.gtids + own, key=lambda gtid: gtid[2])}
        return MariaDBGtidList(tuple(last.values()))
    committed = {domain: sequence for domain, _, sequence in applied.gtids}
    others = tuple(gtid for gtid in logged.gtids if gtid[2] <= committed.get(gtid[0], 0))
    return MariaDBGtidList(applied.gtids + own + others)


def _holds(server: Row) -> MariaDBGtidList | None:
    """Of every server the last GTID that this one, which applies nothing, has in its log or has applied."""
    applied, logged = _gtids(server.get("gtid_slave_pos")), _gtids(server.get("gtid_binlog_state"))
    return None if applied is None or logged is None else applied.union(logged)


def _gtids(value: object) -> MariaDBGtidList | None:
    text = text_of(value)
    try:
        return None if text is None else MariaDBGtidList.parse(text)
    except ValueError:
        return None


MARIADB = Dialect(
    name="mariadb",
    probe=(
        Query(
            "server",
            "SELECT @@global.read_only AS read_only, @@global.innodb_read_only AS innodb_read_only,"
            " @@global.server_id AS server_id, @@hostname AS hostname, @@port AS port,"
            " @@global.log_bin AS log_bin, @@global.gtid_slave_pos AS gtid_slave_pos,"
            f" @@global.gtid_binlog_state AS gtid_binlog_state, {MYSQL_NOW} AS clock",
        ),
        Query(
            "replication",
            "SHOW ALL SLAVES STATUS",
            grant="SLAVE MONITOR ON *.* (before MariaDB 10.5: REPLICATION CLIENT)",
            without="whether the server follows another one, and how far behind it is",
        ),
    ),
    read=read,
    # Not @@last_gtid: that is one connection's own last commit, perhaps of last week.
    position_after_write="SELECT NULLIF(@@global.gtid_binlog_pos, '')",
    parse_position=MariaDBGtidList.parse,
    guard=READ_ONLY_SESSION,
    verdict_of_error=verdict_of_error,
    may_be_own_wish=may_be_own_wish,
    started=(
        "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS"
        " WHERE VARIABLE_NAME = 'UPTIME'"
    ),
)
