"""Blue/green deployments: how far the switchover is, as a primary of one tells it.

During it RDS makes the old server (blue) refuse writes, waits until the new one (green) has everything, and gives it
the name of the old one. Not run against RDS: table and functions are those that AWS publishes, and tests answer so.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/blue-green-deployments-switching.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rds_router.dialects.base import Row
from rds_router.dialects.reading import text_of


@dataclass(frozen=True, slots=True)
class Source:
    """Where one kind of server tells it."""

    is_there: str
    """SQL that has a row where this kind can be asked by this account; no error elsewhere."""
    ask: str


def switchover(sources: Sequence[Source], execute: Callable[[str], Sequence[Row]]) -> str:
    """The status, in RDS's words; empty without a deployment.

    All servers of a deployment have one status in common but for moments: what has gone furthest towards the moment in
    which writes are refused counts.
    """
    for source in sources:
        if execute(source.is_there):
            # Multi-AZ DB clusters have the same table and function, with neither status nor role.
            told = {text_of(row.get("status")) or "" for row in execute(source.ask)}
            return max(told, key=_rank, default="")
    return ""


def _rank(status: str) -> tuple[int, str]:
    return (_ORDER.index(status) if status in _ORDER else -1), status


_ORDER: Final = (
    "",
    "AVAILABLE",
    "SWITCHOVER_COMPLETED",
    "SWITCHOVER_INITIATED",
    "SWITCHOVER_IN_POST_PROCESSING",
    "SWITCHOVER_IN_PROGRESS",
)
_FUNCTION_IS_THERE: Final = (
    "SELECT 1 AS found FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace"
    " WHERE n.nspname = '{0}' AND p.proname = '{1}'"
    " AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') LIMIT 1"
)
_MYSQL: Final = (
    Source(
        "SELECT 1 AS found FROM information_schema.columns"
        " WHERE table_schema = 'mysql' AND table_name = 'rds_topology' AND column_name = 'status'",
        "SELECT status FROM mysql.rds_topology",
    ),
)
BLUE_GREEN: Final[Mapping[str, tuple[Source, ...]]] = {
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "postgresql": (
        Source(
            _FUNCTION_IS_THERE.format("pg_catalog", "get_blue_green_fast_switchover_metadata"),
            "SELECT * FROM pg_catalog.get_blue_green_fast_switchover_metadata('rds_router')",
        ),
        Source(
            _FUNCTION_IS_THERE.format("rds_tools", "show_topology"),
            "SELECT * FROM rds_tools.show_topology('rds_router')",
        ),
    ),
}
"""Dialect name (Aurora's too) -> where its servers tell it."""
