"""Transactions that survive the loss of the primary: done once, or an error that says what is known.

:func:`run_transaction` runs a function in a transaction, and runs it again from the top

1. when the primary was lost, or refused, before the COMMIT was sent: nothing of it was done;
2. on a deadlock, a serialization failure or a lock timeout: the server has undone it;
3. when the COMMIT's answer was lost and the primary of the moment, asked for the mark that the transaction left
   (:mod:`rds_router.commit_marks`), says that it was not done.

If it says that it was done, that is the result. If nobody can say: CommitInDoubt. Outside of it nothing that may have
written is ever repeated.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from rds_router import commit_marks
from rds_router.commit_marks import Mark, Unresolvable
from rds_router.core.token import Token
from rds_router.dialects.base import Verdict
from rds_router.errors import CommitInDoubt, ConfigurationError, NoPrimary, PrimaryChanged, StaleRead
from rds_router.events import CommitResolved, TransactionRepeated
from rds_router.outage import in_short, patience
from rds_router.primary_faults import is_autocommitting
from rds_router.router import Router
from rds_router.session import RoutingSession

_T = TypeVar("_T")


def run_transaction(
    make_session: Callable[[], Session],
    work: Callable[[Any], _T],
    *,
    attempts: int = 3,
    timeout: float = 30.0,
) -> _T:
    """Run ``work(session)`` in a transaction, and again from the top where that is safe. Returns what ``work`` returns.

    ``make_session``: a ``sessionmaker`` of RoutingSession, or a scoped session (``db.session`` of Flask) that is in no
    transaction. ``work`` neither commits nor rolls back, and does nothing that may not be done twice besides the
    database. ``attempts``: how often it is run at most. ``timeout``: seconds for all of it; while there is no primary
    it waits for one so long.

    Raises CommitInDoubt if nobody can say what became of the COMMIT, NoPrimary if there was none, ConfigurationError
    for a session that cannot do it, else what ``work`` raised, or the last error of the database's.
    """
    until = time.monotonic() + timeout
    attempt, is_stale = 1, False
    with patience(until):
        while True:
            session, router = _session_of(make_session)
            try:
                with session.using_primary() if is_stale else nullcontext():
                    return _Attempt(session, router, until).run(work)
            except _Repeat as again:
                if attempt >= attempts or time.monotonic() >= until:
                    raise again.error from again.error.__cause__
                is_stale = is_stale or isinstance(again.error, StaleRead)
                router.events.emit(TransactionRepeated(attempt, again.why))
            finally:
                if not isinstance(make_session, scoped_session):
                    session.close()
            if again_at := min(_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.random():
                time.sleep(max(0.0, min(again_at, until - time.monotonic())))
            attempt += 1


def prepare_transactions(router: Router) -> None:
    """Create what :func:`run_transaction` needs on the primary: on MySQL and MariaDB the table rds_router_transactions.

    Once, by an account that may; harmless when it is there. Without the table a COMMIT whose answer is lost raises
    CommitInDoubt. The table is kept small: rows older than a day are deleted on the way.
    """
    with router.reach(lambda engine: engine.connect()) as connection:
        commit_marks.prepare(connection, router.dialect)


class _Repeat(Exception):
    """Nothing of the attempt was done: it may be run again."""

    def __init__(self, error: DBAPIError | StaleRead, why: str) -> None:
        super().__init__(why)
        self.error = error
        self.why = why


class _Attempt:
    """One run of the work."""

    def __init__(self, session: RoutingSession, router: Router, until: float) -> None:
        self._session = session
        self._router = router
        self._until = until

    def run(self, work: Callable[[Any], _T]) -> _T:
        mark: Mark | None = None
        is_committing = has_written = has_company = False
        try:
            with self._session.begin():
                value = work(self._session)
                self._session.flush()
                connection = self._written_on()
                if connection is not None:
                    mark, has_written = commit_marks.leave_mark(connection, self._router.dialect), True
                has_company = self._has_company()
                is_committing = True
        except StaleRead as error:
            raise _Repeat(error, "a change rested on a stale read: read on the primary this time") from error
        except DBAPIError as error:
            why = self._why_repeat(error)
            if why and is_committing and has_company:
                raise CommitInDoubt(
                    f"the COMMIT of a transaction over several databases failed ({in_short(error)}): each may have done"
                    " its part; look before you run it again"
                ) from error
            if why == _LOST and is_committing and has_written:
                if not self._was_committed(mark, error):
                    raise _Repeat(error, "its COMMIT was lost, and not done") from error
                # It may have been done after the error: what is to be read behind is found out now.
                self._session.read_after(Token(at=self._router.clock()))
            elif why:
                raise _Repeat(error, why) from error
            else:
                raise
        _clean_sometimes(self._router)
        return value

    def _written_on(self) -> Connection | None:
        """The connection to the primary, if the transaction may have written there."""
        session, router = self._session, self._router
        if not router.has_replicas:
            return Session.connection(session, {"bind": router.primary_engine()})
        home = session._home
        return Session.connection(session, {"bind": home}) if home is not None and session._scope.wrote else None

    def _has_company(self) -> bool:
        """A database that is none of the router's takes part (``binds=``, bind keys): no mark speaks for it."""
        transaction = self._session.get_transaction()
        joined = transaction._connections if transaction is not None else {}
        return any(isinstance(each, Engine) and self._router._engines.server_of(each) is None for each in joined)

    def _why_repeat(self, error: DBAPIError) -> str:
        """Why it may be run again unless its COMMIT was sent; empty if it may not."""
        if isinstance(error, PrimaryChanged):
            return "the primary refused a write" if error.safe_to_repeat else ""
        verdict = Verdict.STATEMENT if error.orig is None else self._router.verdict_of(error.orig)
        if verdict is Verdict.RETRY:
            return str(verdict.value)
        return _LOST if verdict is Verdict.GONE or error.connection_invalidated else ""

    def _was_committed(self, mark: Mark | None, error: DBAPIError) -> bool:
        """Ask the primary of the moment until it says, or the time is over."""
        begun, asked = time.monotonic(), "it left no mark: call prepare_transactions(router) once"
        while mark is not None and time.monotonic() < self._until:
            try:
                fate = self._ask(mark)
            except (Unresolvable, NoPrimary) as why:
                asked = str(why)
                break
            except SQLAlchemyError as failed:
                fate, asked = None, in_short(failed)
            if fate is not None:
                took = round(time.monotonic() - begun, 3)
                self._router.events.emit(CommitResolved(self._router.topology.writer, fate, took))
                return fate
            time.sleep(_PAUSE * (0.5 + random.random()))
        self._router.events.emit(CommitResolved(self._router.topology.writer, None, round(time.monotonic() - begun, 3)))
        raise CommitInDoubt(
            f"the answer to a COMMIT was lost, and what became of it could not be found out in"
            f" {time.monotonic() - begun:.1f} s ({asked}): look whether it was done before you run it again"
        ) from error

    def _ask(self, mark: Mark) -> bool | None:
        with self._router.reach(lambda engine: engine.connect()) as connection:
            connection.detach()  # not for the pool again: its settings are changed
            return mark.was_committed(connection, self._until - time.monotonic())


def _session_of(make_session: Callable[[], Session]) -> tuple[RoutingSession, Router]:
    session = make_session()
    router = session._router if isinstance(session, RoutingSession) else None
    if not isinstance(session, RoutingSession) or router is None or session.bind is not None:
        raise ConfigurationError(
            "run_transaction() needs sessions of RoutingSession with a router, and no bind of their own"
        )
    if session.in_transaction():
        raise InvalidRequestError("run_transaction() begins a transaction: commit or roll back the session's own first")
    if is_autocommitting(router.primary_engine()):
        raise ConfigurationError("run_transaction() needs transactions: the primary's engine is in AUTOCOMMIT")
    return session, router


def _clean_sometimes(router: Router) -> None:
    """Old marks are deleted on the way, once in a while; whatever fails now, the transaction is done."""
    now = time.monotonic()
    if now - _cleaned.setdefault(router, now) >= _CLEAN_EVERY:
        _cleaned[router] = now
        with suppress(Exception), Connection(router.primary_engine()) as connection:
            commit_marks.clean(connection, router.dialect)


_LOST: Final = "the connection was lost"
_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_CLEAN_EVERY: Final = 60.0
_cleaned: WeakKeyDictionary[Router, float] = WeakKeyDictionary()
