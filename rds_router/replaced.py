"""A listener of the user's may put another statement in place of the one that was called for.

SQLAlchemy asks ``get_bind`` about the new one if it is an ORM statement; of a Core statement it goes on to name the old
one (2.0 and 2.1, ``Session._execute_internal``). So where a session has such listeners, and only there, a last one says
what will run: a ``with_for_update()``, or an INSERT, that a listener made of a SELECT is no read.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState

from rds_router.session_scope import ScopedSession


def statement_may_change(session: ScopedSession) -> None:
    """Before a call on a session that has listeners: the last word is ours."""
    *_, last = session.dispatch.do_orm_execute
    if last is not _say_what_runs:
        if event.contains(session, "do_orm_execute", _say_what_runs):
            event.remove(session, "do_orm_execute", _say_what_runs)
        event.listen(session, "do_orm_execute", _say_what_runs)


def _say_what_runs(state: ORMExecuteState) -> None:
    state.bind_arguments["clause"] = state.statement
    session = state.session
    if isinstance(session, ScopedSession):
        session._statement = state.statement
