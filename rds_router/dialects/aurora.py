"""What both Auroras tell of their servers, in one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rds_router.core.position import Lsn
from rds_router.dialects.base import Row
from rds_router.dialects.reading import seconds_of, text_of

STALE = 180.0
"""Seconds: a line that is older is of a server that is gone."""
PRIMARY = "MASTER_SESSION_ID"
"""``session_id`` of the primary's line."""


def own_line(rows: Sequence[Row] | None, identifier: str) -> Row:
    """This server's line; an empty one unless it has exactly one that is kept up."""
    own = [row for row in rows or () if text_of(row.get("server_id")) == identifier and is_kept_up(row)]
    return own[0] if len(own) == 1 else {}


def lag_of(line: Row) -> float | None:
    """Seconds; None unless the line tells a figure."""
    milliseconds, age = seconds_of(line.get("lag_ms")), seconds_of(line.get("age"))
    # What a replica lacks beyond that is what came since the line was written.
    return None if milliseconds is None or age is None else milliseconds / 1000 + age


def storage_of(line: Row, *, is_primary: bool) -> tuple[Lsn | None, float]:
    """A server's place in the storage they share, and how old the line is that tells it."""
    age = seconds_of(line.get("age"))
    is_of_its_role = is_primary == (text_of(line.get("session_id")) == PRIMARY)
    number = text_of(line.get("durable_lsn" if is_primary else "current_read_lsn")) or ""
    if age is None or not is_of_its_role or not number.isdecimal() or int(number) == 0:
        return None, 0.0
    return Lsn(int(number)), age


def is_kept_up(row: Row) -> bool:
    age = seconds_of(row.get("age"))
    return age is not None and age <= STALE


def newest_primary(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """The lines that are kept up, and which server's is the primary's: after a failover two may claim it."""
    alive = [row for row in rows if is_kept_up(row)]
    claims = [row for row in alive if text_of(row.get("session_id")) == PRIMARY]
    newest = min(claims, key=lambda row: seconds_of(row.get("age")) or 0.0, default=None)
    return alive, None if newest is None else text_of(newest.get("server_id"))
