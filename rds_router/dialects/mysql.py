"""MySQL 5.7 to 9.x: role, lag and GTIDs, and what its errors mean. MariaDB shares the errors."""

from __future__ import annotations

import re

from rds_router.core.observation import Report, Role
from rds_router.core.position import MySQLGtidSet
from rds_router.dialects.base import Answers, Dialect, Query, Row, Verdict
from rds_router.dialects.heartbeat import MYSQL_NOW
from rds_router.dialects.reading import first_row, furthest, is_on, position_of, rows_of, seconds_of, text_of

READ_ONLY_SESSION = ("SET SESSION TRANSACTION READ ONLY",)
"""START TRANSACTION READ ONLY is no guard: DDL commits it implicitly, and runs."""

# With gtid_mode OFF or OFF_PERMISSIVE new transactions carry no GTID: gtid_executed stands still, is perhaps
# empty, and an empty set is covered by everybody.
_GTID_MODES = ("ON", "ON_PERMISSIVE")


def read(answers: Answers, /) -> Report:
    """Reads the answers to the probe.

    Role: whoever follows a source or refuses writes is a replica; a server that takes writes while the account may
    not see whether it follows somebody is unknown. Lag: the longest of all channels; NULL on one of them (a
    thread is stopped, the source is out of reach) makes the whole unknown.
    """
    server = first_row(answers, "server")
    channels = rows_of(answers, "replication")
    refusals = [is_on(server.get(name)) for name in ("read_only", "super_read_only", "innodb_read_only")]
    is_writable = None if None in refusals else not any(refusals)
    follows = None if channels is None else bool(channels)
    has_gtids = text_of(server.get("gtid_mode")) in _GTID_MODES
    return Report(
        role=role_of(follows=follows, is_writable=is_writable),
        lag=furthest(seconds_behind(channel) for channel in channels or ()),
        position=position_of(MySQLGtidSet.parse, server.get("gtid_executed")) if has_gtids else None,
        is_writable=is_writable,
        follows=follows,
        identity=text_of(server.get("server_uuid")) or "",
        clock=seconds_of(server.get("clock")),
    )


def role_of(*, follows: bool | None, is_writable: bool | None) -> Role:
    """The role that follows from both answers; unknown if the deciding one is missing."""
    if follows or is_writable is False:
        return Role.REPLICA
    return Role.UNKNOWN if follows is None or is_writable is None else Role.PRIMARY


def seconds_behind(channel: Row, /) -> float | None:
    """Seconds_Behind_Source of one channel, under either name; NULL stays None."""
    name = "Seconds_Behind_Source" if "Seconds_Behind_Source" in channel else "Seconds_Behind_Master"
    return seconds_of(channel.get(name))


def verdict_of_error(error: BaseException, /) -> Verdict:
    """What an error of PyMySQL, mysqlclient, MySQL Connector, aiomysql, asyncmy or MariaDB Connector means."""
    if isinstance(error, (OSError, EOFError)) or type(error).__name__ in _TIMED_OUT:
        return Verdict.GONE
    code, text = code_of(error), str(error)
    if code in _VERDICT_BY_TEXT:
        pattern, verdict = _VERDICT_BY_TEXT[code]
        return verdict if pattern.search(text) else Verdict.STATEMENT
    if code in _VERDICT:
        return _VERDICT[code]
    # Drivers report their own closed connection as an InterfaceError without a number of the server.
    is_unnumbered = code is None or code <= 0
    if is_unnumbered and (type(error).__name__ == "InterfaceError" or _CLOSED.search(text)):
        return Verdict.GONE
    return Verdict.STATEMENT


def may_be_own_wish(error: BaseException, /) -> bool:
    """A server that takes no writes says 1290, 1836 or the like; this is said of transactions, its own defaults among
    them."""
    return code_of(error) == 1792  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION


def code_of(error: BaseException) -> int | None:
    """The server's or the driver's number of an error, whichever driver raised it."""
    for code in (getattr(error, "errno", None), *error.args[:1]):
        if isinstance(code, int):
            return code
    return None


_READ_ONLY = (
    1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: a guarded session
    1836,  # ER_READ_ONLY_MODE
    1036,  # ER_OPEN_AS_READONLY: TRUNCATE under innodb_read_only
    1874,  # ER_INNODB_READ_ONLY
)
_GONE = (
    *(1043, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927),  # handshake, shutdown, network, killed
    *(2001, 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2026, 2027, 2045, 2048, 2055),  # found by the client
    3032,  # ER_SERVER_OFFLINE_MODE
    4031,  # ER_CLIENT_INTERACTION_TIMEOUT: the server's last words in wait_timeout
)
_TOO_MANY = (1040, 1203, 1226)
_LOGIN = (1044, 1045, 1129, 1130, 1698, 1820, 1862, 2059, 2061, 3118)
_DENIED = (1142, 1143, 1227, 1370)
_RETRY = (
    *(1205, 1213, 1614),  # lock wait timeout, deadlock, deadlock in an XA transaction
    3101,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication's certification
)
_VERDICT: dict[int, Verdict] = {
    **dict.fromkeys(_READ_ONLY, Verdict.READ_ONLY),
    **dict.fromkeys(_GONE, Verdict.GONE),
    **dict.fromkeys(_TOO_MANY, Verdict.TOO_MANY),
    **dict.fromkeys(_LOGIN, Verdict.LOGIN),
    **dict.fromkeys(_DENIED, Verdict.DENIED),
    **dict.fromkeys(_RETRY, Verdict.RETRY),
}
# Numbers with several meanings: the verdict holds only if the text says so. Option names and handler error
# numbers stay the same in every language of the server's messages.
_VERDICT_BY_TEXT: dict[int, tuple[re.Pattern[str], Verdict]] = {
    1290: (re.compile(r"read[-_ ]only", re.I), Verdict.READ_ONLY),  # also --secure-file-priv, --skip-grant-tables
    1005: (re.compile(r"\b165\b", re.I), Verdict.READ_ONLY),  # "Can't create table (errno: ...)": MariaDB
    1015: (re.compile(r"\b165\b|read[-_ ]only", re.I), Verdict.READ_ONLY),  # "Can't lock file (errno: ...)"
    3501: (re.compile(r"\b165\b", re.I), Verdict.READ_ONLY),  # "The ACL operation failed (errcode ...)"
    1047: (re.compile(r"wsrep", re.I), Verdict.GONE),  # a Galera node that is not in the cluster
    1020: (re.compile(r"changed since last read", re.I), Verdict.RETRY),  # MariaDB's snapshot isolation
}
# MySQL Connector/Python's own, numbered as if the server had ended the statement (3024).
_TIMED_OUT = ("ConnectionTimeoutError", "ReadTimeoutError", "WriteTimeoutError")
_CLOSED = re.compile(r"not available|not connected|packet sequence number|closed|lost connection", re.I)

MYSQL = Dialect(
    name="mysql",
    probe=(
        Query(
            "server",
            "SELECT @@global.read_only AS read_only, @@global.super_read_only AS super_read_only,"
            " @@global.innodb_read_only AS innodb_read_only, @@global.server_uuid AS server_uuid,"
            " @@global.gtid_mode AS gtid_mode, @@global.gtid_executed AS gtid_executed,"
            f" {MYSQL_NOW} AS clock",
        ),
        Query(
            "replication",
            "SHOW REPLICA STATUS",
            grant="REPLICATION CLIENT ON *.*",
            without="whether the server follows another one, and how far behind it is",
            otherwise=("SHOW SLAVE STATUS",),  # before 8.0.22
        ),
    ),
    read=read,
    position_after_write=("SELECT IF(@@global.gtid_mode IN ('ON', 'ON_PERMISSIVE'), @@global.gtid_executed, NULL)"),
    parse_position=MySQLGtidSet.parse,
    guard=READ_ONLY_SESSION,
    verdict_of_error=verdict_of_error,
    may_be_own_wish=may_be_own_wish,
    # Both count from the statement's start: their difference is the second in which the server began, always.
    started=(
        "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED) FROM performance_schema.global_status"
        " WHERE VARIABLE_NAME = 'Uptime'"
    ),
)
