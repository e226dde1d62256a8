"""What both Auroras tell of their servers, in one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rds_router.dialects.base import Row
from rds_router.dialects.reading import seconds_of, text_of

STALE = 180.0
"""Seconds: a line that is older is of a server that is gone."""
PRIMARY = "MASTER_SESSION_ID"
"""``session_id`` of the primary's line."""


def lag_of(rows: Sequence[Row] | None, identifier: str) -> float | None:
    """Seconds; None unless this server has one line that is kept up and tells a figure."""
    own = [row for row in rows or () if text_of(row.get("server_id")) == identifier and is_kept_up(row)]
    milliseconds = seconds_of(own[0].get("lag_ms")) if len(own) == 1 else None
    # What a replica lacks beyond that is what came since the line was written.
    age = seconds_of(own[0].get("age")) if own else None
    return None if milliseconds is None or age is None else milliseconds / 1000 + age


def is_kept_up(row: Row) -> bool:
    age = seconds_of(row.get("age"))
    return age is not None and age <= STALE


def newest_primary(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """The lines that are kept up, and which server's is the primary's: after a failover two may claim it."""
    alive = [row for row in rows if is_kept_up(row)]
    claims = [row for row in alive if text_of(row.get("session_id")) == PRIMARY]
    newest = min(claims, key=lambda row: seconds_of(row.get("age")) or 0.0, default=None)
    return alive, None if newest is None else text_of(newest.get("server_id"))
