"""A psycopg 3 connection to a replica: it does not wait for a silent server for ever, and streams in autocommit too.

Neither ``tcp_user_timeout`` nor ``statement_timeout`` ends a query on a server that was stopped: its kernel goes on
acknowledging, and it cannot look at its own clock. But psycopg waits in steps of a tenth of a second, to let Ctrl-C in,
and each step passes through here. There is no timer and no thread; a read that is answered in time costs one more
generator.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg

from rds_router.patience import Patience
from rds_router.psycopg_connection import ToldConnection


def connection_class(patience: Patience) -> type[psycopg.Connection[Any]]:
    """A new connection class, for one engine."""

    class PatientConnection(ToldConnection):
        @classmethod
        def _connect_gen(cls, *arguments: Any, **options: Any) -> Any:
            # connect_timeout, libpq's and psycopg's, has a floor of 2 s.
            return _connected(super()._connect_gen(*arguments, **options), patience)

        def cursor(self, name: str = "", **options: Any) -> Any:
            if name and self.autocommit:
                # A stream (yield_per) outside of a transaction: PostgreSQL allows it for cursors that outlive theirs.
                options["withhold"] = True
            return super().cursor(name, **options)

        def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
            return _wait(self, _answered(gen, self, patience), *arguments, **options)

    return PatientConnection


_wait: Any = psycopg.Connection.wait


def _answered(gen: Any, connection: psycopg.Connection[Any], patience: Patience) -> Generator[Any, Any, Any]:
    """``gen``, which talks to the server, until the server has been silent for long."""
    began = None
    try:
        state = next(gen)
        while True:
            ready = yield state
            if ready == 0:  # Ready.NONE: a step in which the server said nothing
                began = began or patience.clock()
                if patience.left(began) <= 0:
                    # Closed, so that the pool throws it away: the answer may still come.
                    connection.pgconn.finish()
                    raise psycopg.OperationalError(patience.words)
            else:
                began = None
            state = gen.send(ready)
    except StopIteration as end:
        return end.value


def _connected(gen: Any, patience: Patience) -> Generator[Any, Any, Any]:
    """``gen``, which connects, for so long. It connects in several steps, and the server's system answers some."""
    began = patience.clock()
    try:
        state = next(gen)
        while True:
            ready = yield state
            if patience.clock() - began >= patience.seconds:
                raise psycopg.OperationalError(
                    f"connecting to {patience.server} took more than {patience.seconds:g} s (read_deadline)"
                )
            state = gen.send(ready)
    except StopIteration as end:
        return end.value
