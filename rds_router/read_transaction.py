"""A replica's connection in a session's transaction: there is nothing to commit, and its end is no error of anybody's.

A SessionTransaction commits its connections in no order that anybody knows. A replica that died since the last read
would make ``commit()`` raise, before or after the primary's COMMIT; one that hangs would make it wait, while rows are
locked on the primary. So what a replica's connection has begun takes no part in either: it ends when the
SessionTransaction closes, after all else, by the rollback with which its connection goes back to the pool (none in
autocommit). One whose rollback fails is thrown away.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import SessionTransaction


def only_reads(transaction: SessionTransaction, connection: Connection) -> None:
    """This connection has just joined the transaction, and leads to a replica."""
    joined: dict[Any, Any] = transaction._connections
    entry = (connection, _ReadTransaction(connection), *joined[connection][2:])
    joined[connection] = joined[connection.engine] = entry


def take_out(transaction: SessionTransaction, engine: Engine) -> None:
    """The connection of this engine is broken: it goes, and the transaction may go on with another one."""
    joined: dict[Any, Any] = transaction._connections
    connection, begun = joined.pop(engine, (None, None))[:2]
    if connection is not None:
        joined.pop(connection, None)
        with suppress(Exception):  # it is broken, in whichever way
            connection.invalidate()
        begun.close()
        with suppress(Exception):
            connection.close()


class _ReadTransaction(NamedTuple):
    """In the place of the Transaction that SQLAlchemy would commit, roll back or close."""

    connection: Connection
    is_active: bool = True  # to be closed, in any case

    def commit(self) -> None:
        """Nothing yet: see close()."""

    def rollback(self) -> None:
        """Nothing yet: see close()."""

    def close(self) -> None:
        """Give the connection back. SQLAlchemy's own attempt, which follows, finds that done."""
        try:
            self.connection.close()  # ends what was begun on it, and does not reset it once more
        except Exception:  # whatever a driver raises
            with suppress(Exception):
                self.connection.invalidate()
            with suppress(Exception):
                self.connection.close()
