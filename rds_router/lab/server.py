"""A server of a cluster, as its user sees it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

BOTH = frozenset({"receiver", "applier"})
"""The two halves of replication: one fetches the primary's log, one applies it."""


class State(enum.Enum):
    """What the lab last did to a server's processes."""

    RUNNING = "running"
    FROZEN = "frozen"
    """Stopped by SIGSTOP: it keeps its port and its connections and answers nothing."""
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Server:
    """One server. Its name, address and URLs stay the same through kill, restart and promotion."""

    name: str
    """``mariadb-1``, ``mariadb-2``, ...: says nothing of the role, which changes."""
    engine: str
    """``mariadb``, ``mysql``, ``postgresql`` or ``sqlite``."""
    url: str
    """SQLAlchemy URL of the account an ordinary application has; it may also ask for replication status."""
    admin_url: str
    """SQLAlchemy URL of the account that may do everything."""
    bare_url: str
    """SQLAlchemy URL of an account that may use the database and see nothing of replication."""
    host: str = "127.0.0.1"
    port: int = 0
    """TCP port on ``host``; 0 for sqlite."""
    path: Path = Path()
    """The data directory, or the database file of sqlite. Empty for a container."""
    server_id: int = 1
    """MySQL's and MariaDB's number for it; a server that is made anew has a new one."""
    peer: tuple[str, int] = ("", 0)
    """Host and port under which the cluster's other servers reach it."""
    state: State = State.DEAD
    is_primary: bool = False
    """What the lab made it last. A killed primary stays so until another one is promoted."""
    is_fenced: bool = False
    """Demoted: it refuses writes although nothing else changed."""
    pauses: frozenset[str] = field(default=frozenset())
    """Which halves of its replication are stopped: ``receiver``, ``applier``."""
    delay: float = 0.0
    """Seconds its applier holds every transaction back."""
    source: str = ""
    """Name of the server it was last told to follow."""
    is_stale: bool = False
    """A primary that was replaced while it could not be told: its data may have diverged."""

    @property
    def is_running(self) -> bool:
        """True if it is neither dead nor frozen."""
        return self.state is State.RUNNING

    @property
    def role(self) -> str:
        """``primary`` or ``replica``, as the lab made it last."""
        return "primary" if self.is_primary else "replica"

    def __repr__(self) -> str:
        where = f"{self.host}:{self.port}" if self.port else str(self.path)
        return f"<{self.name} {self.role} {where} {self.state.value}>"


def halves(*, io_only: bool, sql_only: bool) -> frozenset[str]:
    """Which halves of replication a caller means; both without a word. Raises ValueError for both words."""
    if io_only and sql_only:
        raise ValueError("io_only and sql_only exclude each other; without either, both halves are meant")
    if io_only:
        return frozenset({"receiver"})
    return frozenset({"applier"}) if sql_only else BOTH
