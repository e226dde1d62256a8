"""What a load took of processes and servers: CPU from /proc, connections opened from the servers' own counters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from rds_router.lab import Cluster, Server
from rds_router.lab.watchdog import family

TICK = os.sysconf("SC_CLK_TCK")
_OPENED = {
    "postgresql": "SELECT sessions FROM pg_stat_database WHERE datname = current_database()",
    "mysql": "SHOW GLOBAL STATUS LIKE 'Connections'",
    "mariadb": "SHOW GLOBAL STATUS LIKE 'Connections'",
}


def cpu(roots: Iterable[int]) -> float:
    """Seconds of CPU of these processes, of their children, and of children that have ended."""
    used, tops = 0, set(roots)
    for pid in family(tops):
        with suppress(OSError):
            # Behind the name in parentheses; fields 14 to 17: own user and system time, that of waited-for children.
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            used += sum(map(int, fields[11:15] if pid in tops else fields[11:13]))
    return used / TICK


@dataclass(frozen=True, slots=True)
class Taken:
    """Between two moments."""

    cpu: Mapping[str, float]
    """Seconds, by process: ``app``, and each server's name."""
    opened: Mapping[str, int]
    """Connections that each server accepted."""


class Meters:
    """Of an application and a cluster: ``start()``, then ``taken()``. A context manager, for its connections."""

    def __init__(self, c: Cluster) -> None:
        self._cluster = c
        self._asking = {each.name: _connect(each) for each in c.servers}
        self._roots: dict[str, list[int]] = {each.name: c.pids(each)[:1] for each in c.servers}
        self._before: tuple[dict[str, float], dict[str, int]] = ({}, {})

    def start(self, app: int) -> None:
        """From now on; ``app`` is its main process."""
        self._roots["app"] = [app]
        self._before = self._cpu(), self._opened()

    def taken(self) -> Taken:
        """Since the start."""
        used, opened = self._before
        return Taken(
            {name: seconds - used[name] for name, seconds in self._cpu().items()},
            {name: count - opened[name] for name, count in self._opened().items()},
        )

    def __enter__(self) -> Meters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._asking.values():
            each.close()
            each.engine.dispose()

    def _cpu(self) -> dict[str, float]:
        return {name: cpu(roots) for name, roots in self._roots.items()}

    def _opened(self) -> dict[str, int]:
        asked = _OPENED[self._cluster.engine]
        return {name: int(each.execute(text(asked)).one()[-1]) for name, each in self._asking.items()}


def _connect(server: Server) -> Connection:
    options = {"ssl_disabled": True} if server.engine in ("mysql", "mariadb") else {}
    engine = create_engine(server.admin_url, poolclass=NullPool, connect_args=options, isolation_level="AUTOCOMMIT")
    return engine.connect()
