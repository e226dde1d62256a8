"""What became of a COMMIT whose answer was lost: a mark is left in the transaction, and asked for afterwards.

1. MySQL and MariaDB: a row of a small table, written in the same transaction. To ask is to insert the same row: while
   the lost transaction is still open the insert waits for it; then the row is there (it was done), or it is not (it
   was undone), and the inserted one, which says so, bars it for ever.
2. PostgreSQL: the transaction's number. Its status is asked on the primary of the moment. On a later timeline the
   number means the same transaction only if that timeline's server had replayed what the transaction had written so
   far; otherwise its COMMIT cannot be there, and the number may be another transaction's by now.
3. Neither: nobody can say.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from rds_router.dialects.base import Dialect
from rds_router.dialects.mysql import code_of
from rds_router.dialects.postgresql import TIMELINE, sqlstate_of

TABLE: Final = "rds_router_transactions"


class Mark(Protocol):
    """A trace that a transaction leaves before its COMMIT."""

    def was_committed(self, connection: Connection, patience: float) -> bool | None:
        """Ask the primary of the moment; ``connection`` is fresh and is thrown away afterwards.

        Waits for a transaction that is still open, up to ``patience`` seconds. None: ask again. Raises Unresolvable, or
        the driver's error.
        """
        ...


class Unresolvable(Exception):
    """Asking again will not tell either. The text says why."""


def leave_mark(connection: Connection, dialect: Dialect) -> Mark | None:
    """Leave a mark in the open transaction; None if there is nowhere to leave one. One round trip."""
    if dialect.name in ("mysql", "mariadb"):
        return _leave_row(connection)
    return _note_number(connection) if dialect.name == "postgresql" else None


def prepare(connection: Connection, dialect: Dialect) -> None:
    """Create what marks need. It is harmless when it is there."""
    if dialect.name in ("mysql", "mariadb"):
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (id CHAR(32) CHARACTER SET ascii NOT NULL PRIMARY KEY,"
            " was_committed BOOL NOT NULL, at DATETIME(6) NOT NULL, KEY (at)) ENGINE=InnoDB"
        )
        connection.commit()


def clean(connection: Connection, dialect: Dialect) -> int:
    """Delete marks that nobody can ask for any more, some at a time. Returns how many."""
    if dialect.name not in ("mysql", "mariadb"):
        return 0
    deleted = connection.exec_driver_sql(
        f"DELETE FROM {TABLE} WHERE at < UTC_TIMESTAMP(6) - INTERVAL {_KEPT_HOURS} HOUR ORDER BY at LIMIT {_AT_A_TIME}"
    ).rowcount
    connection.commit()
    return deleted


@dataclass(frozen=True, slots=True)
class _Row:
    """Of MySQL and MariaDB."""

    id: str

    def was_committed(self, connection: Connection, patience: float) -> bool | None:
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {max(1, int(patience))}")
        try:
            connection.exec_driver_sql(_INSERT.format(id=self.id, was_committed=0))
        except IntegrityError:
            # A locking read sees the newest row, whatever this transaction's snapshot.
            asked = f"SELECT was_committed FROM {TABLE} WHERE id = '{self.id}' FOR UPDATE"
            found = connection.exec_driver_sql(asked).scalar()
            connection.rollback()
            return None if found is None else bool(found)
        connection.commit()
        return False


def _leave_row(connection: Connection) -> _Row | None:
    row = _Row(uuid.uuid4().hex)
    try:
        connection.exec_driver_sql(_INSERT.format(id=row.id, was_committed=1))
    except DBAPIError as error:
        if error.orig is not None and code_of(error.orig) in _NO_TABLE:
            return None
        raise
    return row


@dataclass(frozen=True, slots=True)
class _Number:
    """Of PostgreSQL."""

    xid: str
    """A number that does not wrap (xid8)."""
    pid: int
    """The server process that worked for the transaction."""
    timeline: int
    written: str
    """The log's end when the number was noted: behind everything the transaction had written, before its COMMIT."""

    def was_committed(self, connection: Connection, patience: float) -> bool | None:
        asked = f"SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN {TIMELINE} END, "
        asked += f"pg_last_wal_replay_lsn() >= '{self.written}'::pg_lsn"
        in_recovery, timeline, was_replayed = connection.exec_driver_sql(asked).one()
        if in_recovery or timeline < self.timeline:
            connection.rollback()
            return None  # the old one, or one that is not promoted yet
        if timeline > self.timeline:
            if was_replayed is None:
                raise Unresolvable("the new primary was restarted since its promotion: it has forgotten where it began")
            if not was_replayed:
                return False
        try:
            status = connection.exec_driver_sql(f"SELECT pg_xact_status('{self.xid}'::xid8)").scalar()
        except DBAPIError as error:
            if error.orig is None or sqlstate_of(error.orig) != _IN_THE_FUTURE:
                raise
            # The server crashed before it had written down that there was such a transaction: it is undone.
            connection.rollback()
            return False
        if status == "in progress":
            # Its client has gone; the server may not know yet, and may get the COMMIT late. Now it ends, either way.
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE pid = {self.pid} AND backend_xid = '{self.xid}'::xid8::xid"
            )
        connection.rollback()
        if status is None:
            raise Unresolvable("the server has forgotten that transaction")
        return {"committed": True, "aborted": False}.get(status)


def _note_number(connection: Connection) -> _Number:
    asked = f"SELECT pg_current_xact_id()::text, pg_backend_pid(), {TIMELINE}, pg_current_wal_insert_lsn()::text"
    xid, pid, timeline, written = connection.exec_driver_sql(asked).one()
    return _Number(xid, pid, timeline, written)


_INSERT: Final = f"INSERT INTO {TABLE} (id, was_committed, at) VALUES ('{{id}}', {{was_committed}}, UTC_TIMESTAMP(6))"
_NO_TABLE: Final = (1146, 1142)
"""There is none, or this account may not write there."""
_IN_THE_FUTURE: Final = "22023"
"""invalid_parameter_value: the number has not been given out, or not any more."""
_KEPT_HOURS: Final = 24
_AT_A_TIME: Final = 1000
