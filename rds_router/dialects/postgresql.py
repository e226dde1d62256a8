"""PostgreSQL 10 and later, with physical (streaming or archive) replicas.

A logical replica is a primary of its own to PostgreSQL, and to us.
"""

from __future__ import annotations

import re
from typing import Any, Final

from rds_router.core.observation import Report, Role
from rds_router.core.position import Lsn
from rds_router.dialects.base import Answers, Dialect, Query, Verdict
from rds_router.dialects.probe import missing_grant
from rds_router.dialects.reading import first_row, is_on, position_of, rows_of, seconds_of, text_of


def read(answers: Answers, /) -> Report:
    """Reads the answers to the probe.

    Lag: the age of the last transaction replayed, on both machines' clocks. A replica that has replayed none since
    its start has replayed at least its last checkpoint, whose age takes its place. It grows while the primary is
    idle, so it counts only while the position is behind the primary's.

    Timeline of a replica: the later of the one its receiver streams and the one of its last restart point. A
    receiver cannot stream a timeline that forked off before what it has replayed, so it is never too high.
    Without pg_read_all_stats it is too low for a while after a failover, and the replica covers nothing new.

    Identity: the system identifier is the whole cluster's, so the moment this server started is added.

    Run: after the crash of one of its processes the same server recovers, and may show less than it had shown. That
    begins its statistics anew, and so a run.
    """
    server, control = first_row(answers, "server"), first_row(answers, "control")
    receivers = rows_of(answers, "receiver") or ()
    in_recovery = _truth(server.get("in_recovery"))
    timelines = [server.get("timeline"), control.get("timeline")]
    timelines += [receiver.get("received_timeline") for receiver in receivers]
    writes_by_default = not is_on(server.get("default_read_only"))
    lag = seconds_of(server.get("replay_age"))
    identity = _identity(control.get("system_identifier"), server.get("started_at"))
    recovered = text_of(server.get("statistics_since"))
    return Report(
        role=Role.UNKNOWN if in_recovery is None else Role.REPLICA if in_recovery else Role.PRIMARY,
        lag=(seconds_of(control.get("checkpoint_age")) if lag is None else lag) if in_recovery else None,
        lag_grows_when_idle=True,
        position=_position(server.get("lsn"), timelines),
        # Of a promoted server this stands where it left the former primary's log.
        branched=None if in_recovery is not False else position_of(Lsn.parse, server.get("replayed")),
        is_writable=None if in_recovery is None else not in_recovery and writes_by_default,
        follows=in_recovery,
        identity=identity,
        run=f"{identity}/{recovered}" if identity and recovered else "",
        clock=seconds_of(server.get("clock")),
        missing=(_NO_STATISTICS,) if any(receiver.get("status") is None for receiver in receivers) else (),
    )


def verdict_of_error(error: BaseException, /) -> Verdict:
    """What an error of psycopg, psycopg2, asyncpg or pg8000 means."""
    if isinstance(error, (OSError, EOFError)):
        return Verdict.GONE
    state, text = sqlstate_of(error), str(error)
    if state is None:
        return _verdict_without_sqlstate(error, text)
    if state == "55000" and "recovery" in text:
        # "recovery is in progress": the statement needs a primary, as much as a write does.
        return Verdict.READ_ONLY
    return _VERDICT.get(state) or _VERDICT_OF_CLASS.get(state[:2]) or Verdict.STATEMENT


def may_be_own_wish(error: BaseException, /) -> bool:
    """``SET TRANSACTION READ ONLY`` refuses in the same words as ``default_transaction_read_only`` and a standby."""
    return sqlstate_of(error) == "25006"


def _verdict_without_sqlstate(error: BaseException, text: str) -> Verdict:
    # libpq tells a refused connection in words only, in the server's language; whatever else an
    # OperationalError without SQLSTATE says, there is no connection.
    for pattern, verdict in _VERDICT_OF_TEXT:
        if pattern.search(text):
            return verdict
    names = {cls.__name__ for cls in type(error).__mro__}
    return Verdict.GONE if names & {"OperationalError", "InterfaceError"} else Verdict.STATEMENT


def sqlstate_of(error: BaseException) -> str | None:
    details: Any = error.args[0] if error.args else None
    states = [getattr(error, "sqlstate", None), getattr(error, "pgcode", None)]
    states.append(details.get("C") if isinstance(details, dict) else None)  # pg8000
    return next((state for state in states if isinstance(state, str) and len(state) == 5), None)


def _truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _position(lsn: Any, timelines: list[Any]) -> Lsn | None:
    position = position_of(Lsn.parse, lsn)
    known = [int(timeline) for timeline in timelines if timeline is not None]
    return Lsn(position.location, max(known, default=0)) if isinstance(position, Lsn) else None


def _identity(system_identifier: Any, started_at: Any) -> str:
    cluster, start = text_of(system_identifier), text_of(started_at)
    return f"{cluster}/{start}" if cluster and start else ""


_READS_STATISTICS = "pg_read_all_stats"
_NO_STATISTICS = missing_grant(
    _READS_STATISTICS,
    "after a failover, until its next restart point, whether a replica follows the new primary",
)

_VERDICT: dict[str, Verdict] = {
    "25006": Verdict.READ_ONLY,  # read_only_sql_transaction: a standby, a guarded session, a full disk on RDS
    "25P03": Verdict.GONE,  # idle_in_transaction_session_timeout
    "40003": Verdict.GONE,  # statement_completion_unknown
    **dict.fromkeys(("57P01", "57P02", "57P03", "57P04", "57P05"), Verdict.GONE),
    "53300": Verdict.TOO_MANY,
    "3D000": Verdict.LOGIN,  # the database of the URL does not exist
    "42501": Verdict.DENIED,
    **dict.fromkeys(("40001", "40P01", "55P03"), Verdict.RETRY),
}
_VERDICT_OF_CLASS: dict[str, Verdict] = {"08": Verdict.GONE, "28": Verdict.LOGIN}
_VERDICT_OF_TEXT = (
    (
        re.compile(r"too many clients|remaining connection slots|too many connections", re.I),
        Verdict.TOO_MANY,
    ),
    (
        re.compile(
            r"authentication failed|pg_hba\.conf|permission denied for database"
            r"|(role|database) .* does not exist|role .* is not permitted",
            re.I,
        ),
        Verdict.LOGIN,
    ),
)

# The next record's place, brought back to the last record's end. They differ where a page or a segment begins:
# the insert location stands behind the page header, a replica that has replayed everything before it, and it
# would look behind until somebody writes again.
_WRITTEN = """(SELECT bytes
    - CASE WHEN mod(bytes, pg_size_bytes(current_setting('wal_segment_size'))) = 40 THEN 40
           WHEN mod(bytes, current_setting('wal_block_size')::int) = 24 THEN 24
           ELSE 0 END
    FROM (SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS bytes) AS here)"""
_AS_TEXT = "upper(to_hex(div({0}, 4294967296)::bigint) || '/' || to_hex(mod({0}, 4294967296)::bigint))"
TIMELINE = "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"

COMMIT_AND_TELL: Final = b"SELECT txid_current_if_assigned() IS NOT NULL; COMMIT; SELECT pg_current_wal_insert_lsn()"
"""One simple query, one round trip: has this transaction written, its end, and the next record's place."""
ABOUT_THE_LOG: Final = (
    f"SELECT CASE WHEN NOT pg_is_in_recovery() THEN {TIMELINE} END,"
    " pg_size_bytes(current_setting('wal_segment_size')), current_setting('wal_block_size')::int"
)
"""Timeline (NULL on a standby), segment size and page size: what the line above leaves out because it stays."""


def end_of_record(location: int, *, segment: int, page: int) -> int:
    """The last record's end, of the next record's place: see _WRITTEN, which is three times as slow on the server."""
    if location % segment == 40:
        return location - 40
    return location - 24 if location % page == 24 else location


POSTGRESQL = Dialect(
    name="postgresql",
    probe=(
        Query(
            "server",
            # reset_val, not the setting itself: a guarded connection has changed that for itself only.
            "SELECT pg_is_in_recovery() AS in_recovery,"
            " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text"
            f" ELSE (SELECT {_AS_TEXT.format('w.bytes')} FROM {_WRITTEN} AS w (bytes)) END AS lsn,"
            f" CASE WHEN NOT pg_is_in_recovery() THEN {TIMELINE} END AS timeline,"
            " pg_last_wal_replay_lsn()::text AS replayed,"
            " extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 AS replay_age,"
            " extract(epoch FROM clock_timestamp())::float8 AS clock,"
            " extract(epoch FROM pg_postmaster_start_time())::numeric(20, 6)::text AS started_at,"
            " (SELECT extract(epoch FROM stats_reset)::numeric(20, 6)::text FROM pg_stat_bgwriter) AS statistics_since,"
            " (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only')"
            " AS default_read_only",
        ),
        Query(
            "control",
            "SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,"
            " timeline_id AS timeline, extract(epoch FROM now() - checkpoint_time)::float8 AS checkpoint_age"
            " FROM pg_control_checkpoint()",
            grant="EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint()",
            without="the server's identity, a replica's timeline, and its lag until it has replayed a transaction",
            # Hosts that offer PostgreSQL without its control file leave the functions out.
            otherwise=("SELECT NULL AS system_identifier, NULL AS timeline, NULL AS checkpoint_age",),
        ),
        Query("receiver", "SELECT status, received_tli AS received_timeline FROM pg_stat_wal_receiver"),
    ),
    read=read,
    position_after_write=f"SELECT {_AS_TEXT.format('w.bytes')} || '@' || {TIMELINE} FROM {_WRITTEN} AS w (bytes)",
    parse_position=Lsn.parse,
    guard=("SET default_transaction_read_only = on",),
    verdict_of_error=verdict_of_error,
    may_be_own_wish=may_be_own_wish,
)
