"""What one probe of one server said, and when."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rds_router.core.position import Position, WallClock


class Role(enum.Enum):
    """What a server says it is."""

    PRIMARY = "primary"
    """Accepts writes and follows nobody."""
    REPLICA = "replica"
    """Follows another server, or refuses writes."""
    UNKNOWN = "unknown"
    """The account may not see it, or the engine has no such notion."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a server answered to its dialect's probe: a value, no time in it."""

    role: Role
    lag: float | None = None
    """Seconds behind its source as the server tells it. None means not known and is never zero."""
    lag_grows_when_idle: bool = False
    """The figure is the age of the last replayed transaction (PostgreSQL): it counts only while
    the replica's position is behind the primary's."""
    position: Position | None = None
    """How far it has applied (a replica) or written (a primary)."""
    holds: Position | None = None
    """All it contains, where that says more than the position does (MariaDB)."""
    branched: Position | None = None
    """Where a promoted server left its former primary's history; None when not known."""
    storage: Position | None = None
    """How far it reads in the storage that all servers share (a replica), or has written there (a primary): Aurora.
    No ``position``, for it may be older than the answer: it is nobody's token, and nothing that an heir must have."""
    storage_age: float = 0.0
    """Seconds before the answer for which ``storage`` was told."""
    is_writable: bool | None = None
    """False when the server refuses writes of ordinary users; None when not known."""
    follows: bool | None = None
    """True when it is set up to replicate from another server; None when the account may not see that."""
    identity: str = ""
    """The server's own id (server_uuid, system identifier), to notice one server under two names."""
    run: str = ""
    """Which run of which server this is, another one after each start; empty when not known. Within one run a server
    only goes forward."""
    heartbeat: float | None = None
    """The heartbeat row it holds, in seconds of the primary's clock; None without one."""
    clock: float | None = None
    """Its own clock when it answered: seconds since 1970."""
    switchover: str = ""
    """How far its blue/green deployment's switchover is, in RDS's words; empty without a deployment."""
    missing: tuple[str, ...] = ()
    """Grants the account lacks, each ending in what therefore stays unknown."""

    @property
    def is_switching_over(self) -> bool:
        """Its writes are about to be refused, and another server to take its name."""
        return self.switchover == "SWITCHOVER_IN_PROGRESS"

    @property
    def takes_no_writes(self) -> bool:
        """It refuses them, or will in a moment."""
        return self.is_writable is False or self.is_switching_over

    @property
    def contents(self) -> Position | None:
        """All it is known to contain. A clock is none of that: it goes on in every file, whatever is in it."""
        return None if isinstance(self.position, WallClock) else self.holds or self.position


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe of one server: a report, or the error in its place."""

    server: str
    at: float
    """Monotonic seconds, read before the probe was sent."""
    report: Report | None = None
    error: str = ""
    """Why there is no report: one line, no secret in it."""
    is_login_refused: bool = False
    """There is no report because the server is there, but does not let this account in."""
    is_read: bool = False
    """It was no probe, but a read that failed there."""
    took: float | None = None
    """Seconds from the first question to the last answer; None when not measured."""
