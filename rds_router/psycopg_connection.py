"""A psycopg connection that learns the position of a commit with the commit's own answer.

PostgreSQL tells no position by itself, but several statements sent as one simple query cost one round trip: whether the
transaction has written, COMMIT, and the log's end. https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psycopg import Connection, errors
from psycopg.generators import execute
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus

from rds_router.core.position import Lsn
from rds_router.dialects.postgresql import ABOUT_THE_LOG, COMMIT_AND_TELL, end_of_record

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult


class ToldConnection(Connection[Any]):
    """Remembers the position of its last commit."""

    rds_position: str | None = None
    """Where the log ended after the last commit; empty if that wrote nothing; None if it was not told."""
    rds_wanted: Callable[[], bool] | None = None
    """Whether somebody wants to know the position of the commit to come."""
    _log: tuple[int, int, int] | None = None
    """Timeline, segment size and page size. While a server process lives, a primary's timeline stays."""

    def rds_track(self) -> None:
        """Learn what it takes to tell positions. On a standby, which has none of its own, nothing changes."""
        with self.cursor() as cursor:
            row = cursor.execute(ABOUT_THE_LOG).fetchone()
        self.rollback()
        if row is not None and None not in row:
            self._log = row

    def rds_forget(self, wanted: Callable[[], bool]) -> None:
        """A transaction begins: what was committed earlier is not its."""
        self.rds_position, self.rds_wanted = None, wanted

    def rds_told(self) -> str | None:
        """See :attr:`rds_position`."""
        return self.rds_position

    def commit(self) -> None:
        """As Connection.commit(), at as many round trips."""
        if not self._is_to_tell():
            super().commit()
            return
        with self.lock:
            self.wait(self._commit_and_tell())

    def _is_to_tell(self) -> bool:
        return (
            self._log is not None
            and self.rds_wanted is not None
            and self.rds_wanted()
            # In a failed transaction nothing but ROLLBACK is answered; prepared ones are not committed like this.
            and self.pgconn.transaction_status == TransactionStatus.INTRANS
            and self.pgconn.pipeline_status == PipelineStatus.OFF
            and not self._tpc
            and not self._num_transactions
        )

    def _commit_and_tell(self) -> PQGen[None]:
        self.pgconn.send_query(COMMIT_AND_TELL)
        results: list[PGresult] = yield from execute(self.pgconn)
        for result in results[:2]:
            if result.status == ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result, encoding=self.info.encoding)
        has_written, _, here = (*results, None, None)[:3]
        self.rds_position = self._read(has_written, here)

    def _read(self, has_written: PGresult | None, here: PGresult | None) -> str | None:
        if has_written is not None and has_written.get_value(0, 0) == b"f":
            return ""
        if self._log is None or here is None or here.status != ExecStatus.TUPLES_OK:
            return None  # committed, and that is all that is known
        timeline, segment, page = self._log
        location = Lsn.parse((here.get_value(0, 0) or b"").decode("ascii")).location
        return str(Lsn(end_of_record(location, segment=segment, page=page), timeline))
