"""Writes that no session keeps account of: what is committed on an engine of the primary is noted for its task.

1. Engines of primaries make connections of a kind that listens (:func:`listen`), whoever asks for them: Flask's
   ``db.engine``, ``router.primary``, an engine with execution options, a plain Session bound to one of these.
2. A RoutingSession keeps account itself: a connection that joins its transaction is an ordinary one from then on
   (:func:`leave_to_session`), so its statements cost nothing here.
3. Noted is the position that the driver was told with the COMMIT, else the moment after it. Not a transaction whose
   statements are reads, by the classifier's verdict, nor one of which the server said that nothing changed. What may
   commit by itself (AUTOCOMMIT, DDL, CALL, what is not understood) is noted once it has run, and again at its COMMIT.
4. Nobody sees what runs on a raw DBAPI connection: its COMMIT and its end count as writes (:func:`listen_to_raw`).
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.pool import PoolProxiedConnection

from rds_router import drivers
from rds_router.core.statement import Kind, Statement
from rds_router.primary_faults import is_autocommitting

_CHANGES_NOTHING: Final = (Kind.READ, Kind.LOCKING_READ)
_OF_THE_CONNECTION: Final = ("select", "show", "set", "pragma", "begin", "start", "use")
"""Of statements about a connection's state those that run no other ones."""
_WAITS_FOR_COMMIT: Final = ("insert", "update", "delete", "replace", "merge", "with", "select")
"""What begins so cannot commit, whatever it calls. Others may, and a rollback then does not undo them."""


class Account(Protocol):
    """Who is told: a router."""

    def judge(self, clause: Any) -> Statement:
        """The verdict on a statement."""
        ...

    def note_write(self, told: str | None, engine: Engine | None) -> None:
        """Something was committed on ``engine``, here and now; ``told``: what the driver was told of it."""
        ...


def listen(engine: Engine, account: Account) -> None:
    """Have the connections of a primary's engine tell ``account`` what they commit."""
    made: Any = engine
    made._connection_cls = functools.partial(ListeningConnection, account)
    made._option_cls = _ListeningOptions


def leave_to_session(connection: Connection) -> None:
    """Its session keeps account of this connection: it listens no more."""
    if type(connection) is ListeningConnection:
        connection.__class__ = Connection  # type: ignore[assignment]


def listen_to_raw(raw: PoolProxiedConnection, account: Account) -> None:
    """Have the COMMIT and the end of a DBAPI connection told to ``account``."""
    # Weakly: one that nobody refers to goes back to its pool.
    proxied: Any = raw
    found: Callable[[], Any] = weakref.ref(proxied)
    close = type(proxied).close

    def commit_and_tell() -> None:
        try:
            found().dbapi_connection.commit()
        finally:
            account.note_write(None, None)

    def close_and_tell() -> None:
        try:
            close(found())
        finally:
            account.note_write(None, None)

    proxied.commit, proxied.close = commit_and_tell, close_and_tell


class ListeningConnection(Connection):
    """A connection to a primary that tells what it commits."""

    _has_written = False
    """This transaction may have changed something."""
    _is_in_doubt = False
    """Something may have ended the transaction, and begun another: what the driver was told is not all."""

    def __init__(self, account: Account, engine: Engine, *arguments: Any, **options: Any) -> None:
        super().__init__(engine, *arguments, **options)
        self._account = account

    def _execute_context(self, dialect: Any, constructor: Any, statement: Any, *arguments: Any, **options: Any) -> Any:
        clause = statement if isinstance(statement, str) else statement.statement
        kind, word = self._account.judge(clause).kind, _first_word(clause)
        run = functools.partial(super()._execute_context, dialect, constructor, statement, *arguments, **options)
        if kind in _CHANGES_NOTHING or (
            # A COMMIT in words is of this kind too, and matters to who has written.
            kind is Kind.SESSION and word in _OF_THE_CONNECTION and not self._has_written
        ):
            return run()
        if not self._has_written:
            self._has_written = True
            drivers.forget_position(self.connection.dbapi_connection, _wanting(weakref.ref(self)))
        if word in _WAITS_FOR_COMMIT and not is_autocommitting(self):
            return run()
        self._is_in_doubt = True
        try:
            return run()
        finally:
            self._account.note_write(None, None)

    def _commit_impl(self) -> None:
        connection: Any = getattr(self._dbapi_connection, "dbapi_connection", None)
        has_written, told = self._has_written, None
        try:
            super()._commit_impl()
            told = None if self._is_in_doubt else drivers.told_position(connection)
        finally:
            # A COMMIT whose answer is lost may have been carried out.
            self._begin_anew()
            if has_written:
                self._account.note_write(told, self.engine)

    def _commit_twophase_impl(self, xid: Any, is_prepared: bool) -> None:
        try:
            super()._commit_twophase_impl(xid, is_prepared)
        finally:
            self._begin_anew()
            self._account.note_write(None, None)

    def _rollback_impl(self) -> None:
        self._begin_anew()
        super()._rollback_impl()

    def _begin_anew(self) -> None:
        self._has_written = self._is_in_doubt = False


class _ListeningOptions(OptionEngine):
    """An engine with execution options, of one that listens."""

    @property
    def _connection_cls(self) -> Any:  # type: ignore[override]
        return self._proxied._connection_cls

    @property
    def _option_cls(self) -> Any:  # type: ignore[override]
        return _ListeningOptions


def _first_word(clause: Any) -> str:
    """Of SQL text, or what that of a construct would be; empty for anything else, and for several statements."""
    text = clause if isinstance(clause, str) else getattr(clause, "text", None)
    if isinstance(text, str):
        return text.split(None, 1)[0].lower() if text.strip() and ";" not in text.rstrip().rstrip(";") else ""
    if getattr(clause, "is_select", False):
        return "select"
    return "update" if getattr(clause, "is_dml", False) else ""


def _wanting(connection: weakref.ref[ListeningConnection]) -> Callable[[], bool]:
    def wanted() -> bool:
        found = connection()
        return found is not None and found._has_written and not found._is_in_doubt

    return wanted
