"""SQLite files: a primary, and replica files that something outside keeps up to date.

A replica file holds a table ``rds_router_replica_status (caught_up_at REAL)`` with one row: the moment, in seconds
since 1970 by the clock of this machine, up to which it contains what the primary had committed. Whoever
copies reads the clock before it begins to copy.
"""

from __future__ import annotations

from typing import Final

from rds_router.core.observation import Report, Role
from rds_router.core.position import WallClock
from rds_router.dialects.base import Answers, Dialect, Query, Verdict
from rds_router.dialects.reading import first_row, position_of, rows_of, seconds_of, text_of

STATUS_TABLE: Final = "rds_router_replica_status"


def read(answers: Answers, /) -> Report:
    """Reads the answers to the probe. The identity is the file; a memory database has none."""
    status, file = first_row(answers, "status"), text_of(first_row(answers, "file").get("file")) or ""
    is_replica = "caught_up_at" in status
    if not is_replica and rows_of(answers, "status"):
        return Report(
            role=Role.PRIMARY,
            position=position_of(WallClock.parse, status.get("now")),
            is_writable=True,
            follows=False,
            clock=seconds_of(status.get("now")),
            identity=file,
        )
    return Report(
        role=Role.REPLICA,
        lag=seconds_of(status.get("lag")),
        position=position_of(WallClock.parse, status.get("caught_up_at")),
        # The file itself refuses nobody; only the guard of each connection does.
        is_writable=None,
        follows=True,
        identity=file,
        run=file,  # a file is never started, and whoever keeps it up to date does not put it back
    )


def verdict_of_error(error: BaseException, /) -> Verdict:
    """What an error of sqlite3, pysqlcipher or aiosqlite means; they carry a number only since Python 3.11."""
    if isinstance(error, OSError):
        return Verdict.GONE
    text = str(error).lower()
    return next((verdict for words, verdict in _VERDICT_OF_TEXT if words in text), Verdict.STATEMENT)


# SQLite's own messages: English, and the same in every version.
_VERDICT_OF_TEXT = (
    ("attempt to write a readonly database", Verdict.READ_ONLY),
    ("database is locked", Verdict.RETRY),
    ("database table is locked", Verdict.RETRY),
    ("database schema is locked", Verdict.RETRY),
    ("unable to open database file", Verdict.GONE),
    ("disk i/o error", Verdict.GONE),
    ("file is not a database", Verdict.GONE),
    ("database disk image is malformed", Verdict.GONE),
    ("closed database", Verdict.GONE),
    ("connection closed", Verdict.GONE),
    ("no active connection", Verdict.GONE),
    ("not authorized", Verdict.DENIED),
    ("access to", Verdict.DENIED),
)

# unixepoch('subsec') needs SQLite 3.42. The clock is cut to milliseconds.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
# A commit may be younger than the cut clock: one millisecond more, and it never looks older than it is.
_AFTER_NOW = f"({_NOW} + 0.001)"

SQLITE = Dialect(
    name="sqlite",
    probe=(
        Query(
            "status",
            f"SELECT caught_up_at, {_NOW} - caught_up_at AS lag FROM {STATUS_TABLE}",
            otherwise=(f"SELECT {_AFTER_NOW} AS now",),  # no such table: the primary
        ),
        Query("file", "SELECT file FROM pragma_database_list WHERE name = 'main'"),
    ),
    read=read,
    position_after_write=f"SELECT {_AFTER_NOW}",
    parse_position=WallClock.parse,
    guard=("PRAGMA query_only = ON",),
    verdict_of_error=verdict_of_error,
)
