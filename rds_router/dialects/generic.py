"""Any other engine SQLAlchemy talks to (SQL Server, Oracle, ...): it is there, and nothing more is known.

Roles are what the configuration says. Lag stays unknown, so with the default policy its replicas get no reads;
``unknown_lag="allow"`` uses them however old they are. The heartbeat row is not known here, and refused.
"""

from __future__ import annotations

from rds_router.core.observation import Report, Role
from rds_router.core.position import WallClock
from rds_router.dialects.base import Answers, Dialect, Query, Verdict


def read(answers: Answers, /) -> Report:
    """It answered, and that is all."""
    return Report(role=Role.UNKNOWN)


def verdict_of_error(error: BaseException, /) -> Verdict:
    """GONE for what the operating system says of the network; all else is the statement's own fault."""
    return Verdict.GONE if isinstance(error, (OSError, EOFError)) else Verdict.STATEMENT


GENERIC = Dialect(
    name="generic",
    probe=(Query("alive", "SELECT 1", otherwise=("SELECT 1 FROM DUAL",)),),
    read=read,
    position_after_write=None,
    parse_position=WallClock.parse,
    guard=(),
    verdict_of_error=verdict_of_error,
)
