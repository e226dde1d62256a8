"""The heartbeat row as data: one row, written on the primary, read everywhere.

Its age on a replica is its true lag, also while the replica is cut off from its primary and still says 0. The row
holds the primary's own clock, and it is compared with the primary's own clock: no two clocks are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

TABLE: Final = "rds_router_heartbeat"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The statements of one engine family."""

    create: tuple[str, ...]
    """Makes the table and its row; harmless when they are there."""
    write: str
    """Renews the row, unless another process did so within ``{age}`` seconds. To be tried only if the row was read and
    found old: MariaDB logs and replicates also an UPDATE that changed nothing (binlog_format STATEMENT and MIXED)."""
    read: str
    """The row's time ``at``, and its ``age``."""

    def write_every(self, seconds: float) -> str:
        """The write, done at most once in ``seconds`` among all processes."""
        return self.write.format(age=f"{seconds:.3f}")


def is_young(age: Any, seconds: float) -> bool:
    """True if a row of this age was renewed within ``seconds``; one from the future is another clock's.

    ``age``: as the driver gives it, a float or a Decimal.
    """
    return -_MAY_WAIT <= float(age) <= seconds


def heartbeat_for(dialect: str) -> Heartbeat | None:
    """The heartbeat of an engine family, or None where there is none."""
    return _HEARTBEATS.get(dialect)


_MAY_WAIT: Final = 1
"""Seconds by which a row may be younger than a statement that had to wait for it."""


def _heartbeat(number: str, now: str, insert: str) -> Heartbeat:
    return Heartbeat(
        create=(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (id SMALLINT NOT NULL PRIMARY KEY, at {number} NOT NULL)",
            insert.format(table=TABLE, now=now),
        ),
        # A row from the future is a former primary's, whose clock was fast: to wait for it would stop the heart.
        write=f"UPDATE {TABLE} SET at = {now} WHERE id = 1 AND at NOT BETWEEN {now} - {{age}} AND {now} + {_MAY_WAIT}",
        read=f"SELECT at, {now} - at AS age FROM {TABLE} WHERE id = 1",
    )


# Not UNIX_TIMESTAMP(NOW(6)): local time jumps by an hour twice a year.
MYSQL_NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000"
_MYSQL: Final = _heartbeat("DOUBLE", MYSQL_NOW, "INSERT IGNORE INTO {table} (id, at) VALUES (1, {now})")
_HEARTBEATS: Final = {
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "postgresql": _heartbeat(
        "DOUBLE PRECISION",
        "extract(epoch from clock_timestamp())",
        "INSERT INTO {table} (id, at) VALUES (1, {now}) ON CONFLICT DO NOTHING",
    ),
    "sqlite": _heartbeat(
        "REAL",
        "((julianday('now') - 2440587.5) * 86400.0)",
        "INSERT OR IGNORE INTO {table} (id, at) VALUES (1, {now})",
    ),
}
