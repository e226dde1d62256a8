"""A statement that its replica failed is run again elsewhere, if nothing of it was delivered and nothing was written.

1. Refused as a write by a read-only replica: on the primary, and its shape is remembered (R9).
2. The replica is gone, full, or lets nobody in: on another one, or on the primary if there is none (R10). A second one
   that dies of the same statement is the last: the statement may be what kills them, and the primary is next.
3. This process has no connection to it left: likewise, and nothing is wrong with the replica.
4. The primary is gone, and the read was the first thing that its transaction did there: where the next decision leads,
   after a wait for a primary if need be.
5. Whatever else goes wrong is the caller's to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from rds_router.core.scope import Hold
from rds_router.dialects.base import Verdict
from rds_router.events import ReadRetried
from rds_router.monitor import one_line
from rds_router.patience import SILENT
from rds_router.read_transaction import take_out
from rds_router.router import Router
from rds_router.session_scope import ScopedSession

_T = TypeVar("_T")
_SERVERS_FAULT: Final = (Verdict.GONE, Verdict.TOO_MANY, Verdict.LOGIN)


class RerunningSession(ScopedSession):
    """A Session whose reads survive the replica that they were sent to."""

    def _run_again(
        self, run: Callable[[], _T], error: DBAPIError | NoConnectionLeft, *, is_first: bool, is_nested: bool
    ) -> _T:
        """``run()``, which ended in ``error``, for as long as that may help; else raises the last error.

        ``is_first``: before it, the transaction had nothing on the primary. ``is_nested``: another call runs it, a load
        within a load. Whoever died of it then counts for that call too, which would run it anew.
        """
        failed, deaths = self._failed, self._deaths
        try:
            while self._may_run_again(self._statement, error, is_first=is_first):
                try:
                    result = run()
                except (DBAPIError, NoConnectionLeft) as another:
                    error = another
                else:
                    self._deaths = deaths
                    return result
            if not is_nested:
                self._deaths = 0
            raise error
        finally:
            self._failed = failed

    def _may_run_again(self, statement: Any, error: DBAPIError | NoConnectionLeft, *, is_first: bool) -> bool:
        """A server failed the statement, nothing of it was delivered, and this transaction has written nothing."""
        router, engine, server = self._router, self._answering, self._replica_answering()
        if router is not None and engine is None:
            return is_first and isinstance(error, DBAPIError) and self._primary_died(router, statement, error)
        if router is None or engine is None or server is None or self._scope.wrote or server in self._failed:
            return False
        if isinstance(error, NoConnectionLeft):
            router.events.emit(ReadRetried(server, str(error.args[0])))
            self._leave(server)
            return True
        if error.orig is None:
            return False
        verdict = router.verdict_of(error.orig)
        if verdict is Verdict.READ_ONLY:
            # R9: it was a write after all. On the primary this time, as its shape from now on.
            self._failed |= {server}
            router.healed(statement, server, error.orig)
            self._hold(Hold.WROTE, wrote=True)
            return True
        if verdict in _SERVERS_FAULT or error.connection_invalidated:
            # R10: on another replica, or on the primary if there is none.
            router.lost(server, error.orig)
            if self._is_second_death(verdict, error):
                return False
            if (transaction := self.get_transaction()) is not None:
                take_out(transaction, engine)
            self._leave(server)
            return True
        return False

    def _primary_died(self, router: Router, statement: Any, error: DBAPIError) -> bool:
        """It went away while it ran a read, once for this call: nothing was done there that could not be done again."""
        home, transaction = self._home, self.get_transaction()
        if home is None or transaction is None or error.orig is None or self._scope.wrote or self._deaths:
            return False
        is_read = self._scope.hold in (None, Hold.READ) and router.judge(statement).is_read
        if not is_read or router.verdict_of(error.orig) is not Verdict.GONE:
            return False
        server = router.topology.writer
        router.events.emit(ReadRetried(server, one_line(error.orig, home.url)))
        take_out(transaction, home)
        self._failed, self._deaths = self._failed | {server}, 1
        self._home = self._home_connection = None
        return True

    def _is_second_death(self, verdict: Verdict, error: DBAPIError) -> bool:
        """Not the first server that went away while it ran this statement: a silent one did not, as far as we know."""
        was_reached = error.statement is not None and verdict is Verdict.GONE
        self._deaths += was_reached and SILENT not in str(error.orig)
        return self._deaths > 1

    def _leave(self, server: str) -> None:
        """This statement is not sent there again, and the transaction reads elsewhere from now on."""
        self._failed |= {server}
        self._scope = replace(self._scope, pinned=None)
        self._pin = None
